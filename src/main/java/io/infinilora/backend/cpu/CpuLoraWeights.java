package io.infinilora.backend.cpu;

import io.infinilora.backend.LoraWeights;
import io.infinilora.core.LoraFactors;
import java.lang.foreign.Arena;
import java.util.List;

/** One adapter's pairs at one site, in memory of their own. */
final class CpuLoraWeights implements LoraWeights {
  private final CpuBackend owner;
  private final Arena arena = Arena.ofShared();
  private final LoraPair[] pairs;
  private final int in;
  private final long bytes;

  CpuLoraWeights(CpuBackend owner, List<LoraFactors> factors) {
    this.owner = owner;
    pairs = new LoraPair[factors.size()];
    LoraPacker packer = new LoraPacker(arena);
    boolean complete = false;
    try {
      for (int t = 0; t < pairs.length; t++) {
        pairs[t] = packer.pack(factors.get(t));
      }
      complete = true;
    } finally {
      if (!complete) {
        arena.close();
      }
    }
    in = packer.in();
    bytes = packer.bytes();
  }

  @Override
  public int rank(int target) {
    return pairs[target].rank();
  }

  @Override
  public int in() {
    return in;
  }

  @Override
  public long bytes() {
    return bytes;
  }

  CpuBackend owner() {
    return owner;
  }

  /** A pair per target; shared, not to be written. */
  LoraPair[] pairs() {
    return pairs;
  }

  boolean alive() {
    return arena.scope().isAlive();
  }

  void free() {
    arena.close();
  }
}
