package io.infinilora.core;

import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * What reading an adapter has shown to whoever holds it, or a part of it.
 *
 * @param status what it is and where it lies
 * @param norms what it changes there, by layer, then target
 */
public record LoadedAdapter(AdapterStatus status, List<DeltaNorm> norms) {

  /** Copies the list. */
  public LoadedAdapter {
    Objects.requireNonNull(status);
    norms = List.copyOf(norms);
  }

  /**
   * Two parts of one adapter as one.
   *
   * @param other a part with no pair in common with this one
   */
  public LoadedAdapter plus(LoadedAdapter other) {
    return new LoadedAdapter(
        status.plus(other.status),
        Stream.concat(norms.stream(), other.norms.stream())
            .collect(
                Collectors.toMap(n -> new Place(n.layer(), n.target()), n -> n, DeltaNorm::plus))
            .values()
            .stream()
            .sorted(Comparator.comparingInt(DeltaNorm::layer).thenComparing(DeltaNorm::target))
            .toList());
  }

  private record Place(int layer, LoraTarget target) {}

  /**
   * Returns this adapter.
   *
   * @param allowNoEffect whether it may change nothing
   * @throws InfiniLoraException BAD_ADAPTER if it changes nothing and that is not wanted
   */
  public LoadedAdapter requireEffect(boolean allowNoEffect) {
    if (!allowNoEffect && norms.stream().allMatch(n -> n.norm() == 0)) {
      throw new InfiniLoraException(
          ErrorCode.BAD_ADAPTER,
          "%s: changes nothing, since A or B of every pair is zero (allow_no_effect loads it)"
              .formatted(status.source()));
    }
    return this;
  }
}
