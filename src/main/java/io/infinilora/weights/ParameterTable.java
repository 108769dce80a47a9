package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/**
 * Every parameter of a model, found in its files and checked when the model is opened: present, of
 * the right shape, and no tensor left over that the model would silently do without.
 */
final class ParameterTable {

  /** Where a parameter belongs; layer 0 for those outside layers. */
  private record Key(Param param, int layer) {}

  private final ModelSpec spec;
  private final TensorIndex tensors;
  private final TensorNames names;
  private final Map<Key, WeightMatrix> matrices = new HashMap<>();
  private final Map<Key, TensorView> vectors = new HashMap<>();
  private final Set<String> claimed = new HashSet<>();
  private final int[] qOrder;
  private final int[] kOrder;

  private ParameterTable(
      ModelSpec spec, TensorIndex tensors, TensorNames names, boolean pairedRows) {
    this.spec = spec;
    this.tensors = tensors;
    this.names = names;
    int headDim = spec.attention().headDim();
    qOrder = pairedRows ? RowPermutation.halvesFromPairs(spec.attention().heads(), headDim) : null;
    kOrder =
        pairedRows ? RowPermutation.halvesFromPairs(spec.attention().kvHeads(), headDim) : null;
  }

  /**
   * Finds all parameters.
   *
   * @param pairedRows whether the rows of q and k lie as {@link RowPermutation} describes
   * @param arena owner of the few biases that have to be reordered
   * @throws io.infinilora.core.InfiniLoraException BAD_MODEL_FILE naming file and tensor
   */
  static ParameterTable load(
      ModelSpec spec, TensorIndex tensors, TensorNames names, boolean pairedRows, Arena arena) {
    ParameterTable table = new ParameterTable(spec, tensors, names, pairedRows);
    for (Param param : ParamShapes.global(spec)) {
      table.add(param, 0, arena);
    }
    for (int layer = 0; layer < spec.layers(); layer++) {
      for (Param param : ParamShapes.perLayer(spec)) {
        table.add(param, layer, arena);
      }
    }
    table.refuseLeftovers();
    return table;
  }

  private void add(Param param, int layer, Arena arena) {
    String name = names.of(param, layer);
    if (!tensors.names().contains(name)) {
      throw tensors.fault("tensor " + name + " is missing");
    }
    claimed.add(name);
    TensorView view = tensors.view(name);
    long[] expected = ParamShapes.shape(spec, param);
    if (!Arrays.equals(view.shape(), expected)) {
      throw tensors.fault(
          "tensor %s has shape %s, but the configuration asks for %s"
              .formatted(name, Arrays.toString(view.shape()), Arrays.toString(expected)));
    }
    int[] order =
        switch (param) {
          case Q, Q_BIAS -> qOrder;
          case K, K_BIAS -> kOrder;
          default -> null;
        };
    Key key = new Key(param, layer);
    if (expected.length == 2) {
      matrices.put(key, WeightMatrix.of(view, order));
      return;
    }
    if (view.dtype().quantised()) {
      throw tensors.fault("tensor " + name + " is a vector, but quantised as " + view.dtype());
    }
    vectors.put(key, order == null ? view : reordered(view, order, arena));
  }

  private static TensorView reordered(TensorView vector, int[] order, Arena arena) {
    int bytes = vector.dtype().blockBytes();
    MemorySegment copy = arena.allocate(vector.data().byteSize(), bytes);
    for (int i = 0; i < order.length; i++) {
      MemorySegment.copy(vector.data(), (long) order[i] * bytes, copy, (long) i * bytes, bytes);
    }
    return new TensorView(vector.name(), vector.dtype(), vector.shape(), copy, vector.source());
  }

  private void refuseLeftovers() {
    for (String name : tensors.names()) {
      if (!claimed.contains(name) && tensors.supported(name) && !dispensable(name)) {
        throw tensors.fault(
            "tensor %s is no parameter of this %s model of %d layers"
                .formatted(name, spec.architecture(), spec.layers()));
      }
    }
  }

  /** Tensors that repeat what the configuration says, and a head that tying makes superfluous. */
  private boolean dispensable(String name) {
    return name.endsWith(".rotary_emb.inv_freq")
        || name.equals(GgufRope.FACTORS)
        || (spec.tiedEmbeddings() && name.equals(names.of(Param.LM_HEAD, 0)));
  }

  /** A matrix, or null if the model has no such matrix. */
  WeightMatrix matrix(Param param, int layer) {
    return matrices.get(key(param, layer));
  }

  /** A vector, or null if the model has no such vector. */
  TensorView vector(Param param, int layer) {
    return vectors.get(key(param, layer));
  }

  private Key key(Param param, int layer) {
    return switch (param) {
      case EMBEDDING, FINAL_NORM -> new Key(param, 0);
      case LM_HEAD -> new Key(spec.tiedEmbeddings() ? Param.EMBEDDING : Param.LM_HEAD, 0);
      default -> new Key(param, layer);
    };
  }
}
