package io.infinilora.backend.cpu;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.core.LoraFactors;
import java.lang.foreign.Arena;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/** One adapter's pairs of all experts at one routed site, in memory of their own. */
final class CpuExpertLoraWeights implements ExpertLoraWeights {
  private final CpuBackend owner;
  private final Arena arena = Arena.ofShared();
  private final LoraPair[][] experts;
  private final LoraPair[] first;
  private final int in;
  private final long bytes;

  CpuExpertLoraWeights(CpuBackend owner, List<List<LoraFactors>> factors) {
    this.owner = owner;
    int targets = targets(factors);
    experts = new LoraPair[factors.size()][];
    LoraPacker packer = new LoraPacker(arena);
    boolean complete = false;
    try {
      for (int e = 0; e < experts.length; e++) {
        List<LoraFactors> site = factors.get(e);
        if (site != null && site.stream().anyMatch(Objects::nonNull)) {
          experts[e] = new LoraPair[targets];
          for (int t = 0; t < targets; t++) {
            experts[e][t] = packer.pack(site.get(t));
          }
        }
      }
      first = firstOfEachTarget(targets);
      complete = true;
    } finally {
      if (!complete) {
        arena.close();
      }
    }
    in = packer.in();
    bytes = packer.bytes();
  }

  /** The number of targets, which is that of every expert. */
  private static int targets(List<List<LoraFactors>> factors) {
    List<LoraFactors> present =
        factors.stream()
            .filter(site -> site != null && site.stream().anyMatch(Objects::nonNull))
            .findFirst()
            .orElseThrow(() -> new IllegalArgumentException("an adapter without any expert"));
    for (List<LoraFactors> site : factors) {
      if (site != null && site.size() != present.size()) {
        throw new IllegalArgumentException(
            "experts with " + present.size() + " and " + site.size() + " targets");
      }
    }
    return present.size();
  }

  private LoraPair[] firstOfEachTarget(int targets) {
    LoraPair[] found = new LoraPair[targets];
    Arrays.fill(found, LoraPair.ABSENT);
    for (LoraPair[] pairs : experts) {
      for (int t = 0; pairs != null && t < targets; t++) {
        if (pairs[t].rank() == 0) {
          continue;
        }
        if (found[t].rank() == 0) {
          found[t] = pairs[t];
        } else if (found[t].out() != pairs[t].out()) {
          throw new IllegalArgumentException(
              "experts with outputs of " + found[t].out() + " and " + pairs[t].out());
        }
      }
    }
    return found;
  }

  @Override
  public int experts() {
    return experts.length;
  }

  @Override
  public int rank(int expert, int target) {
    return experts[expert] == null ? 0 : experts[expert][target].rank();
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

  int targets() {
    return first.length;
  }

  /** Output features of a target; 0 if no expert has it. */
  int out(int target) {
    return first[target].rank() == 0 ? 0 : first[target].out();
  }

  /** A pair per target, or null for an absent expert; shared, not to be written. */
  LoraPair[] pairs(int expert) {
    return experts[expert];
  }

  boolean alive() {
    return arena.scope().isAlive();
  }

  void free() {
    arena.close();
  }
}
