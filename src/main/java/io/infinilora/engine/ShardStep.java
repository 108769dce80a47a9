package io.infinilora.engine;

import io.infinilora.backend.RowGroups;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import java.util.Collections;
import java.util.EnumSet;
import java.util.Set;
import java.util.UUID;

/**
 * A step as it is announced to one shard.
 *
 * @param id number among the base's steps, ascending
 * @param incarnation of the shard that granted the slots
 * @param groups compact rows, grouped by adapter
 * @param rows the step's rows that use an adapter, in the order of the compact ones
 * @param slots adapter slot of each group
 * @param targets targets that at least one of the adapters has
 * @param sites sites of those targets
 * @param deadlineNanos {@link System#nanoTime} at which both sides give the step up
 */
record ShardStep(
    long id,
    UUID incarnation,
    RowGroups groups,
    int[] rows,
    int[] slots,
    Set<LoraTarget> targets,
    Set<LoraSite> sites,
    long deadlineNanos) {

  static ShardStep of(
      long id,
      UUID incarnation,
      RowGroups groups,
      int[] rows,
      int[] slots,
      Set<LoraTarget> targets,
      long deadlineNanos) {
    Set<LoraSite> sites = EnumSet.noneOf(LoraSite.class);
    targets.forEach(target -> sites.add(target.site()));
    return new ShardStep(
        id,
        incarnation,
        groups,
        rows,
        slots,
        Set.copyOf(targets),
        Collections.unmodifiableSet(sites),
        deadlineNanos);
  }
}
