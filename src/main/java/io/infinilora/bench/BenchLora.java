package io.infinilora.bench;

import io.infinilora.backend.Backend;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraImage;
import io.infinilora.backend.LoraLayer;
import io.infinilora.backend.LoraMemory;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.Tensor;
import io.infinilora.core.DType;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import io.infinilora.model.LoraPort;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * Adapters of random numbers at every site of every layer, in device memory, computed on the base
 * model's stream (coupled). All layers of an adapter hold the same numbers, but in memory of their
 * own.
 */
final class BenchLora implements AutoCloseable {
  /** Small enough that activations stay finite. */
  private static final double SPREAD = 0.01;

  private final ModelSpec spec;
  private final LoraMemory memory;

  /** Per adapter, its layers. */
  private final List<List<LoraLayer>> adapters = new ArrayList<>();

  private final Map<List<Integer>, WeightMatrix> matrices = new HashMap<>();
  private final Random random = new Random(5);

  BenchLora(Backend backend, ModelSpec spec, int count, int rank, long budget) {
    this.spec = spec;
    memory = backend.loraMemory(budget);
    LayerFactors factors = factors(rank);
    try (LoraImage image = backend.loraImage(factors)) {
      for (int a = 0; a < count; a++) {
        List<LoraLayer> layers = new ArrayList<>();
        for (int layer = 0; layer < spec.layers(); layer++) {
          layers.add(memory.load(image));
        }
        adapters.add(layers);
      }
    }
  }

  private LayerFactors factors(int rank) {
    Map<LoraSite, List<LoraFactors>> dense = new EnumMap<>(LoraSite.class);
    Map<LoraSite, List<List<LoraFactors>>> routed = new EnumMap<>(LoraSite.class);
    for (LoraSite site : LoraSite.all()) {
      List<LoraFactors> pairs = new ArrayList<>();
      for (LoraTarget target : site.targets()) {
        pairs.add(
            new LoraFactors(
                matrix(rank, spec.inWidth(site)), matrix(spec.outWidth(target), rank), 1));
      }
      if (spec.routed(site)) {
        List<List<LoraFactors>> experts = new ArrayList<>();
        for (int e = 0; e < spec.mlp().moe().experts(); e++) {
          experts.add(pairs);
        }
        routed.put(site, experts);
      } else {
        dense.put(site, pairs);
      }
    }
    return new LayerFactors(dense, routed);
  }

  private WeightMatrix matrix(int rows, int cols) {
    return matrices.computeIfAbsent(
        List.of(rows, cols),
        shape -> {
          MemorySegment data = MemorySegment.ofArray(new byte[2 * rows * cols]);
          for (int i = 0; i < rows * cols; i++) {
            float value = (float) (random.nextGaussian() * SPREAD);
            data.set(
                ValueLayout.JAVA_SHORT_UNALIGNED,
                2L * i,
                (short) (Float.floatToRawIntBits(value) >>> 16));
          }
          return WeightMatrix.of(
              new TensorView("random", DType.BF16, new long[] {rows, cols}, data, "benchmark"));
        });
  }

  /** A port for steps whose rows go to the adapters in turn. */
  LoraPort port(int rows, OpStream ops) {
    int groups = Math.min(rows, adapters.size());
    int[] order = new int[rows];
    int[] starts = new int[groups + 1];
    int at = 0;
    for (int g = 0; g < groups; g++) {
      for (int r = g; r < rows; r += groups) {
        order[at++] = r;
      }
      starts[g + 1] = at;
    }
    return new Port(new RowGroups(order, starts), ops);
  }

  private final class Port implements LoraPort {
    private final RowGroups groups;
    private final OpStream ops;

    Port(RowGroups groups, OpStream ops) {
      this.groups = groups;
      this.ops = ops;
    }

    @Override
    public boolean reads(int layer, LoraSite site) {
      return true;
    }

    @Override
    public void publish(int layer, LoraSite site, Tensor x) {}

    @Override
    public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {
      List<LoraWeights> weights = new ArrayList<>(groups.groups());
      for (int g = 0; g < groups.groups(); g++) {
        weights.add(adapters.get(g).get(layer).weights(site));
      }
      ops.loraAdd(groups, weights, x, outs);
    }

    @Override
    public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {}

    @Override
    public void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {
      List<ExpertLoraWeights> weights = new ArrayList<>(groups.groups());
      for (int g = 0; g < groups.groups(); g++) {
        weights.add(adapters.get(g).get(layer).expertWeights(site));
      }
      if (site == LoraSite.MLP_IN) {
        ops.expertLoraAdd(groups, weights, routing, x, outs);
      } else {
        ops.expertLoraCombine(groups, weights, routing, x, outs[0]);
      }
    }
  }

  @Override
  public void close() {
    adapters.forEach(layers -> layers.forEach(memory::free));
    memory.close();
  }
}
