package io.infinilora.backend;

import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * One device: its memory and the weights on it. Creation methods may be called from any thread and
 * may block; what they return lives until {@link #close}, except {@link #loraWeights}, which can be
 * {@linkplain #free freed} on its own.
 */
public interface Backend extends AutoCloseable {

  /** One line for the start-up log: device, instruction set, threads. */
  String describe();

  /**
   * Why the device cannot be used any more; empty as long as it can. A device that is lost stays so
   * until the process is started again.
   */
  default Optional<InfiniLoraException> fault() {
    return Optional.empty();
  }

  /** A zeroed activation matrix with room for {@code rows} rows. */
  Tensor tensor(int rows, int cols);

  /**
   * The same in float32 whatever the device's usual precision is: for the residual stream, whose
   * small changes add up, and for logits.
   */
  default Tensor wideTensor(int rows, int cols) {
    return tensor(rows, cols);
  }

  /**
   * Matrices that one projection writes together, and that a device may lay side by side.
   *
   * @param cols width of each
   */
  default List<Tensor> tensors(int rows, int... cols) {
    return Arrays.stream(cols).mapToObj(width -> tensor(rows, width)).toList();
  }

  /** A parameter vector, converted to float32. */
  Vec vec(TensorView view);

  /**
   * Says that a model's weights will come: what copying them takes is made meanwhile, on threads of
   * the backend's. Returns at once; need not be called.
   */
  default void prepareForWeights() {}

  /**
   * Announces a model's matrices, so that memory for them can be set aside at once.
   *
   * @param bytes of all of them in bf16, both sides rounded up to multiples of 8, each to one of
   *     256 bytes
   * @throws InfiniLoraException BAD_CONFIG if a device does not have as much
   */
  default void expectWeights(long bytes) {}

  /** An embedding table; quantised tables stay quantised. */
  Embedding embedding(TensorView table);

  /**
   * Packs linear layers that share their input. Quantised weights stay quantised.
   *
   * @param weights {@code [out_i, in]} each
   * @param biases as many entries, null where there is none
   */
  Projection projection(List<WeightMatrix> weights, List<Vec> biases);

  /**
   * An embedding table {@code [vocab, hidden]} as a linear layer without bias: the output head of
   * models where both are tied. Shares the table's memory if the device has it.
   */
  Projection projection(Embedding table);

  /**
   * Packs one adapter's pairs for one site; entries are null for targets that the adapter leaves
   * alone.
   */
  LoraWeights loraWeights(List<LoraFactors> targets);

  /** Gives back the memory of adapter weights that no stream uses any more. */
  void free(LoraWeights weights);

  /**
   * Packs the experts of linear layers that share their input. Quantised weights stay quantised.
   *
   * @param experts per expert, {@code [out_i, in]} per output; all experts alike in shape
   * @param biases likewise, entries null where there is none
   */
  ExpertProjection expertProjection(List<List<WeightMatrix>> experts, List<List<Vec>> biases);

  /**
   * Packs one adapter's pairs for one routed site.
   *
   * @param experts per expert, a pair per target of the site: null for targets that the adapter
   *     leaves alone in this expert; the inner list is null for experts that it leaves alone or
   *     that are held elsewhere. At least one pair must be there
   */
  ExpertLoraWeights expertLoraWeights(List<List<LoraFactors>> experts);

  /** Gives back the memory of adapter weights that no stream uses any more. */
  void free(ExpertLoraWeights weights);

  /**
   * Sets device memory aside for adapters.
   *
   * @param bytes budget; whole pages of it are used
   */
  LoraMemory loraMemory(long bytes);

  /**
   * Device pages that one layer of an adapter takes. Looks at shapes only, never at values.
   *
   * @return 0 for a layer without factors
   */
  int loraPages(LayerFactors factors);

  /** Packs one layer of an adapter in host memory. Not for event loops. */
  LoraImage loraImage(LayerFactors factors);

  /** Room for the routing of {@code rows} rows to {@code topK} of {@code experts} experts each. */
  Routing routing(int rows, int topK, int experts);

  /** Bytes that memory budgets count for a cache of this shape. */
  long kvBytes(KvLayout layout);

  /**
   * Bytes of memory of its own that the device has left; empty if it computes in the machine's
   * memory.
   */
  default OptionalLong freeMemory() {
    return OptionalLong.empty();
  }

  /** Bytes in use of the memory of its own that the device has, by purpose. */
  default Map<String, Long> usedMemory() {
    return Map.of();
  }

  /** A cache for keys and values. */
  KvCache kvCache(KvLayout layout);

  /** The rotation's table for heads of {@code headDim} elements. */
  RopeTable ropeTable(RopeSpec rope, int headDim);

  /** A new signal with value 0, visible to all streams of this backend. */
  Signal signal();

  /**
   * Opens a stream of operators. A stream is used by one thread at a time: the driver thread.
   *
   * @param name prefix of the names of its worker threads
   * @param threads CPU threads that work on an operator, the caller included; ignored by GPUs
   */
  OpStream openStream(String name, int threads);

  @Override
  void close();
}
