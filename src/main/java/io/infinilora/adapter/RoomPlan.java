package io.infinilora.adapter;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;

/**
 * Chooses who makes room for the first adapter in line: those that nobody wants at once, in the
 * order of the {@link EvictionPolicy}, and those that are in use after some time, longest held
 * first. Only chooses; the cache acts. The cache's thread only.
 */
final class RoomPlan {
  private final CacheTable table;
  private final EvictionPolicy policy;

  RoomPlan(CacheTable table, EvictionPolicy policy) {
    this.table = table;
    this.policy = policy;
  }

  /**
   * Whom to send away so that enough pages for an adapter are on their way to be free.
   *
   * @return nobody if enough are on their way already; empty if it cannot be done, or must not:
   *     nothing leaves in vain, and nothing leaves for a hint
   */
  Optional<List<CacheEntry>> victims(CacheEntry reason) {
    int missing = table.missing(reason);
    int reachable = 0;
    List<CacheEntry> evictable = new ArrayList<>();
    for (CacheEntry entry : table.entries()) {
      if (entry.is(CacheEntry.State.LEAVING)) {
        missing -= entry.pages();
      } else if (entry.evictable()) {
        evictable.add(entry);
        reachable += entry.pages();
      }
    }
    if (missing > reachable || (missing > 0 && !reason.wanted())) {
      return Optional.empty();
    }
    evictable.sort(Comparator.comparingDouble(e -> policy.value(e.usage())));
    return Optional.of(firstOf(evictable, missing));
  }

  /**
   * Whom to drain so that there will be enough pages for an adapter: of those that are in use and
   * not pinned as many as are needed besides what leaves anyhow.
   */
  List<CacheEntry> toDrain(CacheEntry reason) {
    int missing = table.missing(reason);
    List<CacheEntry> held = new ArrayList<>();
    for (CacheEntry entry : table.entries()) {
      if (entry.is(CacheEntry.State.LEAVING) || entry.draining() || entry.evictable()) {
        missing -= entry.pages(); // On its way, or gone as soon as it is of any use.
      } else if (!entry.is(CacheEntry.State.QUEUED) && !entry.pinned() && entry.inUse()) {
        held.add(entry);
      }
    }
    held.sort(Comparator.comparingLong(CacheEntry::heldSince));
    return firstOf(held, missing);
  }

  /** As many as have so many pages together, or all. */
  private static List<CacheEntry> firstOf(List<CacheEntry> entries, int pages) {
    List<CacheEntry> chosen = new ArrayList<>();
    int missing = pages;
    for (Iterator<CacheEntry> i = entries.iterator(); missing > 0 && i.hasNext(); ) {
      CacheEntry entry = i.next();
      missing -= entry.pages();
      chosen.add(entry);
    }
    return chosen;
  }
}
