package io.infinilora.wire;

import io.infinilora.backend.RowGroups;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import java.util.Collections;
import java.util.EnumSet;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;

/**
 * What the layer requests of one step have in common. Checked once, here, and not on the critical
 * path.
 *
 * @param id number of the step among those of its exchange, ascending from 0
 * @param exchange where activations come from and deltas go
 * @param incarnation of the shard that granted the slots
 * @param groups compact rows, grouped by adapter
 * @param slots adapter slot of each group
 * @param targets targets that at least one of the adapters has
 * @param sites sites of those targets, which the base publishes and the server answers; in order
 * @param deadlineNanos {@link System#nanoTime} at which both sides give the step up
 */
public record LoraStep(
    long id,
    LoraExchange exchange,
    UUID incarnation,
    RowGroups groups,
    int[] slots,
    Set<LoraTarget> targets,
    Set<LoraSite> sites,
    long deadlineNanos) {

  /** Checks that rows fit the exchange and that groups and slots agree. */
  public LoraStep {
    Objects.requireNonNull(exchange);
    Objects.requireNonNull(incarnation);
    targets = Set.copyOf(targets);
    sites =
        Collections.unmodifiableSet(
            sites.isEmpty() ? EnumSet.noneOf(LoraSite.class) : EnumSet.copyOf(sites));
    int capacity = exchange.capacity();
    if (groups.rows().length > capacity) {
      throw new InfiniLoraException(
          ErrorCode.INTERNAL,
          "LoRA step %d has %d rows, the exchange holds %d"
              .formatted(id, groups.rows().length, capacity));
    }
    if (groups.groups() != slots.length) {
      throw new InfiniLoraException(
          ErrorCode.INTERNAL,
          "LoRA step %d has %d groups, but %d slots".formatted(id, groups.groups(), slots.length));
    }
  }

  /** A step with the sites of its targets. */
  public static LoraStep of(
      long id,
      LoraExchange exchange,
      UUID incarnation,
      RowGroups groups,
      int[] slots,
      Set<LoraTarget> targets,
      long deadlineNanos) {
    Set<LoraSite> sites = EnumSet.noneOf(LoraSite.class);
    targets.forEach(t -> sites.add(t.site()));
    return new LoraStep(id, exchange, incarnation, groups, slots, targets, sites, deadlineNanos);
  }

  /** Number of compact rows. */
  public int rows() {
    return groups.rows().length;
  }
}
