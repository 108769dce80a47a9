package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.Map;

/**
 * Every parameter of a model, found in its files and checked when the model is opened: present, of
 * the right shape, and no tensor left over that the model would silently do without.
 */
final class ParameterTable {

  /** Stands for the expert of parameters that no expert has. */
  private static final int DENSE = -1;

  /** Where a parameter belongs; layer 0 for those outside layers. */
  private record Key(Param param, int layer, int expert) {

    /** The compiler's own takes 7 ms when it is first called, and all who load layers wait. */
    @Override
    public boolean equals(Object other) {
      return other instanceof Key key
          && param == key.param
          && layer == key.layer
          && expert == key.expert;
    }

    @Override
    public int hashCode() {
      return 31 * (31 * param.hashCode() + layer) + expert;
    }
  }

  private final ModelSpec spec;
  private final TensorLayout layout;
  private final CheckedTensors tensors;
  private final Arena arena;
  private final Map<Key, WeightMatrix> matrices = new HashMap<>();
  private final Map<Key, TensorView> vectors = new HashMap<>();
  private final int[] qOrder;
  private final int[] kOrder;

  private ParameterTable(
      ModelSpec spec, TensorIndex tensors, TensorLayout layout, boolean pairedRows, Arena arena) {
    this.spec = spec;
    this.layout = layout;
    this.tensors = new CheckedTensors(tensors);
    this.arena = arena;
    int headDim = spec.attention().headDim();
    qOrder = pairedRows ? RowPermutation.halvesFromPairs(spec.attention().heads(), headDim) : null;
    kOrder =
        pairedRows ? RowPermutation.halvesFromPairs(spec.attention().kvHeads(), headDim) : null;
  }

  /**
   * Finds all parameters.
   *
   * @param pairedRows whether the rows of q and k lie as {@link RowPermutation} describes; q and k
   *     then have tensors of their own
   * @param arena owner of the few biases that have to be reordered
   * @throws io.infinilora.core.InfiniLoraException BAD_MODEL_FILE naming file and tensor
   */
  static ParameterTable load(
      ModelSpec spec, TensorIndex tensors, TensorLayout layout, boolean pairedRows, Arena arena) {
    ParameterTable table = new ParameterTable(spec, tensors, layout, pairedRows, arena);
    for (Param param : ParamShapes.global(spec)) {
      table.add(param, 0, DENSE);
    }
    for (int layer = 0; layer < spec.layers(); layer++) {
      for (Param param : ParamShapes.perLayer(spec)) {
        table.add(param, layer, DENSE);
      }
      for (Param param : ParamShapes.perExpert(spec)) {
        for (int expert = 0; expert < spec.mlp().moe().experts(); expert++) {
          table.add(param, layer, expert);
        }
      }
    }
    table.tensors.refuseLeftovers(table::dispensable, spec);
    return table;
  }

  private void add(Param param, int layer, int expert) {
    Key key = new Key(param, layer, expert);
    if (ParamShapes.shape(spec, param).length == 2) {
      matrices.put(key, matrixOf(key));
    } else {
      vectors.put(key, vectorOf(key));
    }
  }

  private WeightMatrix matrixOf(Key key) {
    TensorPlace place = layout.place(key.param());
    String name = place.name(key.layer(), key.expert());
    long[] shape = place.shape(spec, key.param());
    WeightMatrix tensor =
        place.scales() == null
            ? WeightMatrix.of(tensors.plain(name, shape))
            : tensors.scaled(name, place.scalesName(key.layer(), key.expert()), shape);
    int[] order = order(key.param());
    return order == null
        ? place.part(tensor, spec, key.param(), key.expert())
        : WeightMatrix.of(tensor.tensor(), order);
  }

  private TensorView vectorOf(Key key) {
    TensorPlace place = layout.place(key.param());
    TensorView tensor =
        tensors.vectors(place.name(key.layer(), key.expert()), place.shape(spec, key.param()));
    int[] order = order(key.param());
    int[] elements =
        order == null ? place.elements(tensor, spec, key.param(), key.expert()) : order;
    return picked(tensor, elements);
  }

  /** These elements as a vector: a view where they are neighbours, else a copy. */
  private TensorView picked(TensorView tensor, int[] elements) {
    int bytes = tensor.dtype().blockBytes();
    int count = elements.length;
    long from = (long) elements[0] * bytes;
    MemorySegment data;
    if (neighbours(elements)) {
      data = tensor.data().asSlice(from, (long) count * bytes);
    } else {
      data = arena.allocate((long) count * bytes, bytes);
      for (int i = 0; i < count; i++) {
        MemorySegment.copy(
            tensor.data(), (long) elements[i] * bytes, data, (long) i * bytes, bytes);
      }
    }
    return new TensorView(tensor.name(), tensor.dtype(), new long[] {count}, data, tensor.source());
  }

  private static boolean neighbours(int[] elements) {
    for (int i = 1; i < elements.length; i++) {
      if (elements[i] != elements[i - 1] + 1) {
        return false;
      }
    }
    return true;
  }

  /** The order of a parameter's outputs in the file, or null if it is theirs. */
  private int[] order(Param param) {
    return switch (param) {
      case Q, Q_BIAS -> qOrder;
      case K, K_BIAS -> kOrder;
      default -> null;
    };
  }

  /** Tensors that repeat what the configuration says, and a head that tying makes superfluous. */
  private boolean dispensable(String name) {
    return name.endsWith(".rotary_emb.inv_freq")
        || name.equals(GgufRope.FACTORS)
        || (spec.tiedEmbeddings() && name.equals(layout.firstName(Param.LM_HEAD)));
  }

  /** A matrix, or null if the model has no such matrix. */
  WeightMatrix matrix(Param param, int layer) {
    return matrices.get(key(param, layer));
  }

  /** A matrix of an expert, or null if the model has no such matrix. */
  WeightMatrix matrix(Param param, int layer, int expert) {
    return matrices.get(new Key(param, layer, expert));
  }

  /** A vector, or null if the model has no such vector. */
  TensorView vector(Param param, int layer) {
    return vectors.get(key(param, layer));
  }

  /** A vector of an expert, or null if the model has no such vector. */
  TensorView vector(Param param, int layer, int expert) {
    return vectors.get(new Key(param, layer, expert));
  }

  private Key key(Param param, int layer) {
    return switch (param) {
      case EMBEDDING, FINAL_NORM -> new Key(param, 0, DENSE);
      case LM_HEAD -> new Key(spec.tiedEmbeddings() ? Param.EMBEDDING : Param.LM_HEAD, 0, DENSE);
      default -> new Key(param, layer, DENSE);
    };
  }
}
