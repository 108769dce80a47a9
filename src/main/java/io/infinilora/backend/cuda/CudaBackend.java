package io.infinilora.backend.cuda;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Embedding;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;
import io.infinilora.backend.LoraImage;
import io.infinilora.backend.LoraMemory;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Projection;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Signal;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * One NVIDIA GPU and its memory. Activations and weights are bf16, sums float32. Closing gives the
 * device back, and all memory with it: streams must be closed before, and nothing be loading.
 */
public final class CudaBackend implements Backend {
  /** Readable bytes behind a tensor: kernels read inputs in wider pieces than rows. */
  private static final long SLACK = 256;

  private final CudaDevice device;
  private final PinnedSlots signals;
  private final CudaWeights weights;
  private final CudaAdapters adapters;
  private volatile boolean closed;

  /**
   * Takes a device into use.
   *
   * @param ordinal number of the device, from 0
   * @param budget bytes of device memory that may be used
   */
  public CudaBackend(int ordinal, long budget) {
    device = CudaDevice.open(ordinal, budget);
    signals = new PinnedSlots(device);
    weights = new CudaWeights(this, device);
    adapters = new CudaAdapters(this, device);
  }

  CudaDevice device() {
    return device;
  }

  /** What its operators need beside tensors. */
  public ScratchSizes scratchSizes() {
    return new ScratchSizes(device.hopper(), device.multiprocessors());
  }

  @Override
  public OptionalLong freeMemory() {
    return OptionalLong.of(device.budget() - device.usedBytes());
  }

  @Override
  public Map<String, Long> usedMemory() {
    return device.used();
  }

  /** Throws once the backend is closed or the device is lost. */
  void checkOpen() {
    if (closed) {
      throw new IllegalStateException("the CUDA backend is closed");
    }
    if (device.lost() != null) {
      throw device.lost();
    }
  }

  @Override
  public String describe() {
    return "CUDA: %s, compute capability %.1f, %d multiprocessors, %.1f GiB in use of %.1f GiB"
        .formatted(
            device.name(),
            device.computeCapability() / 10.0,
            device.multiprocessors(),
            device.usedBytes() / 0x1p30,
            device.budget() / 0x1p30);
  }

  @Override
  public Optional<InfiniLoraException> fault() {
    return Optional.ofNullable(device.look());
  }

  @Override
  public Tensor tensor(int rows, int cols) {
    return tensors(rows, false, cols).getFirst();
  }

  @Override
  public Tensor wideTensor(int rows, int cols) {
    return tensors(rows, true, cols).getFirst();
  }

  @Override
  public List<Tensor> tensors(int rows, int... cols) {
    return tensors(rows, false, cols);
  }

  private List<Tensor> tensors(int rows, boolean wide, int... cols) {
    int stride = 0;
    for (int width : cols) {
      if (rows < 0 || width < 1) {
        throw new IllegalArgumentException("no tensor can be [" + rows + ", " + width + "]");
      }
      stride = Math.addExact(stride, CudaTensor.padded(width));
    }
    checkOpen();
    int elementBytes = wide ? Float.BYTES : Short.BYTES;
    long bytes = Math.multiplyExact((long) rows * stride, elementBytes) + SLACK;
    long address = device.allocate(bytes, "workspace").address();
    List<Tensor> tensors = new ArrayList<>();
    for (int width : cols) {
      tensors.add(new CudaTensor(this, address, rows, width, stride, wide, rows));
      address += (long) CudaTensor.padded(width) * elementBytes;
    }
    return tensors;
  }

  @Override
  public Vec vec(TensorView view) {
    checkOpen();
    return weights.vec(view);
  }

  @Override
  public void prepareForWeights() {
    checkOpen();
    weights.prepare();
  }

  @Override
  public void expectWeights(long bytes) {
    checkOpen();
    weights.expect(bytes);
  }

  @Override
  public Embedding embedding(TensorView table) {
    checkOpen();
    return weights.embedding(table);
  }

  @Override
  public Projection projection(Embedding table) {
    return new CudaChecks(this).embedding(table).projection();
  }

  @Override
  public Projection projection(List<WeightMatrix> matrices, List<Vec> biases) {
    checkOpen();
    return weights.projection(matrices, biases);
  }

  @Override
  public ExpertProjection expertProjection(
      List<List<WeightMatrix>> experts, List<List<Vec>> biases) {
    checkOpen();
    return weights.expertProjection(experts, biases);
  }

  @Override
  public LoraWeights loraWeights(List<LoraFactors> targets) {
    checkOpen();
    return adapters.loraWeights(targets);
  }

  @Override
  public void free(LoraWeights lora) {
    adapters.free(lora);
  }

  @Override
  public ExpertLoraWeights expertLoraWeights(List<List<LoraFactors>> experts) {
    checkOpen();
    return adapters.expertLoraWeights(experts);
  }

  @Override
  public void free(ExpertLoraWeights lora) {
    adapters.free(lora);
  }

  @Override
  public LoraMemory loraMemory(long bytes) {
    checkOpen();
    return adapters.memory(bytes);
  }

  @Override
  public int loraPages(LayerFactors factors) {
    return adapters.pages(factors);
  }

  @Override
  public LoraImage loraImage(LayerFactors factors) {
    checkOpen();
    return adapters.image(factors);
  }

  @Override
  public Routing routing(int rows, int topK, int experts) {
    if (rows < 0 || topK < 1 || topK > experts) {
      throw new IllegalArgumentException(
          "no routing can be [%d, %d of %d]".formatted(rows, topK, experts));
    }
    if (experts > RoutingOps.MAX_EXPERTS || topK > RoutingOps.MAX_CHOICES) {
      throw new IllegalArgumentException(
          "%d of %d experts; the CUDA backend routes to at most %d of %d"
              .formatted(topK, experts, RoutingOps.MAX_CHOICES, RoutingOps.MAX_EXPERTS));
    }
    checkOpen();
    int routed = rows * topK;
    long values = (4L * routed + SLACK) / 16 * 16;
    long address =
        device.allocate(2 * values + RoutingPlan.bytes(routed, experts), "workspace").address();
    return new CudaRouting(
        this,
        rows,
        topK,
        experts,
        address,
        address + values,
        new RoutingPlan(address + 2 * values, routed, experts),
        rows);
  }

  @Override
  public long kvBytes(KvLayout layout) {
    return CudaKvCache.bytes(layout);
  }

  @Override
  public KvCache kvCache(KvLayout layout) {
    checkOpen();
    return CudaKvCache.allocate(this, layout);
  }

  @Override
  public RopeTable ropeTable(RopeSpec rope, int headDim) {
    if (headDim < 2 || headDim % 2 != 0) {
      throw new IllegalArgumentException("heads of " + headDim + " elements cannot be rotated");
    }
    checkOpen();
    return CudaRopeTable.create(this, rope, headDim);
  }

  @Override
  public Signal signal() {
    checkOpen();
    return new CudaSignal(this, signals.next());
  }

  @Override
  public OpStream openStream(String name, int threads) {
    if (threads < 1) {
      throw new IllegalArgumentException("a stream needs at least one thread, not " + threads);
    }
    checkOpen();
    return new CudaOpStream(this);
  }

  @Override
  public void close() {
    if (!closed) {
      closed = true;
      try {
        weights.close();
      } finally {
        device.close();
      }
    }
  }
}
