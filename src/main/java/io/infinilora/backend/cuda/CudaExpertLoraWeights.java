package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertLoraWeights;
import java.util.Objects;

/**
 * One adapter's pairs of all experts at one routed site, in memory of a residence.
 *
 * @param ranks per expert and target, null for absent experts; not to be written
 * @param outs per target, 0 where no expert has it; not to be written
 * @param rankBlocks the most that an expert's A has in all
 * @param mostRank the highest rank
 * @param table device address of the experts' array of names
 */
record CudaExpertLoraWeights(
    CudaBackend owner,
    LoraResidence residence,
    int[][] ranks,
    int[] outs,
    int in,
    int rankBlocks,
    int mostRank,
    long bytes,
    long table)
    implements ExpertLoraWeights {

  static CudaExpertLoraWeights of(
      CudaBackend owner, LoraResidence residence, LoraExpertsPlan site, LoraTables tables) {
    int[][] ranks = new int[site.experts().size()][];
    for (int e = 0; e < ranks.length; e++) {
      LoraSitePlan expert = site.experts().get(e);
      ranks[e] = expert == null ? null : expert.pairs().stream().mapToInt(LoraPair::rank).toArray();
    }
    return new CudaExpertLoraWeights(
        owner,
        residence,
        ranks,
        site.outs(),
        site.in(),
        site.experts().stream()
            .filter(Objects::nonNull)
            .mapToInt(LoraSitePlan::rankBlocks)
            .max()
            .orElse(0),
        site.experts().stream()
            .filter(Objects::nonNull)
            .flatMap(e -> e.pairs().stream())
            .mapToInt(LoraPair::rank)
            .max()
            .orElse(0),
        site.bytes(),
        tables.experts(site));
  }

  @Override
  public int experts() {
    return ranks.length;
  }

  @Override
  public int rank(int expert, int target) {
    return ranks[expert] == null ? 0 : ranks[expert][target];
  }

  int targets() {
    return outs.length;
  }
}
