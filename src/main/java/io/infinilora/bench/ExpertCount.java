package io.infinilora.bench;

import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.LoraSite;
import io.infinilora.model.LoraPort;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.stream.IntStream;

/** A LoRA port that computes nothing and counts which experts a step's rows choose. */
final class ExpertCount implements LoraPort {
  private final OpStream ops;
  private long distinct;

  ExpertCount(OpStream ops) {
    this.ops = ops;
  }

  /** Experts that some row chose, summed over the layers. */
  long distinct() {
    return distinct;
  }

  @Override
  public boolean reads(int layer, LoraSite site) {
    return site == LoraSite.MLP_IN;
  }

  @Override
  public void publish(int layer, LoraSite site, Tensor x) {}

  @Override
  public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {}

  @Override
  public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {
    if (site != LoraSite.MLP_IN) {
      return;
    }
    int[] rows = IntStream.range(0, routing.rows()).toArray();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment packed = arena.allocate(8L * rows.length * routing.topK());
      ops.packRouting(routing, rows, packed);
      int[] experts = new int[rows.length * routing.topK()];
      MemorySegment.copy(packed, ValueLayout.JAVA_INT, 0, experts, 0, experts.length);
      distinct += Arrays.stream(experts).distinct().count();
    }
  }

  @Override
  public void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {}
}
