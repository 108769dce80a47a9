package io.infinilora.adapter;

import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.ArrayDeque;
import java.util.Collection;
import java.util.Collections;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The adapters that are not absent from an {@link AdapterCache}, the line of those that wait for
 * memory, and the pages that the others take. All changes of state go through here, so that the
 * sums agree with them; when to change what is decided by the cache. The cache's thread only.
 */
final class CacheTable {
  private final int pages;
  private final Map<AdapterId, CacheEntry> entries = new LinkedHashMap<>();
  private final Map<AdapterId, AdapterUsage> usages = new HashMap<>();
  private final Deque<CacheEntry> queue = new ArrayDeque<>();

  /** Pages of entries that are loading, resident or leaving. */
  private int reserved;

  /** Entries that are resident. */
  private int complete;

  /**
   * An empty table.
   *
   * @param pages device pages
   */
  CacheTable(int pages) {
    this.pages = pages;
  }

  /** All entries in the order in which they came. */
  Collection<CacheEntry> entries() {
    return Collections.unmodifiableCollection(entries.values());
  }

  /** The entry of an adapter; null if it is absent. */
  CacheEntry find(AdapterId id) {
    return entries.get(id);
  }

  /** The entry of what is in device memory; null if it has left meanwhile, or was replaced. */
  CacheEntry find(ResidentAdapter adapter) {
    CacheEntry entry = entries.get(adapter.generation().id());
    return entry == null || entry.adapter() != adapter ? null : entry;
  }

  /** The entry of an adapter; one that was absent goes to the end of the line. */
  CacheEntry enter(AdapterGeneration generation) {
    return entries.computeIfAbsent(
        generation.id(),
        id -> {
          CacheEntry entry =
              new CacheEntry(
                  generation,
                  usages.computeIfAbsent(id, i -> new AdapterUsage(generation.pages())));
          queue.add(entry);
          return entry;
        });
  }

  /** Forgets how an adapter was used. */
  void forgetUsage(AdapterId id) {
    usages.remove(id);
  }

  /** Takes out of the line what nobody wants any more. */
  void leaveLine(CacheEntry entry) {
    queue.remove(entry);
    entries.remove(entry.generation().id());
  }

  /** The next in line: the first that somebody wants; prefetches come after those. Or null. */
  CacheEntry first() {
    for (CacheEntry entry : queue) {
      if (entry.wanted()) {
        return entry;
      }
    }
    return queue.peek();
  }

  /** Pages that are missing for one that is in line; not positive if there are enough. */
  int missing(CacheEntry entry) {
    return reserved + entry.pages() - pages;
  }

  /** One that was in line is being loaded, into memory that is reserved from now on. */
  void loading(CacheEntry entry, ResidentAdapter adapter) {
    queue.remove(entry);
    reserved += entry.pages();
    move(entry, CacheEntry.State.LOADING);
    entry.loading(adapter);
  }

  /** All layers are there. */
  void completed(CacheEntry entry) {
    entry.ready(entry.adapter().layers());
    move(entry, CacheEntry.State.RESIDENT);
  }

  /** Nobody may begin to use it any more; its memory stays reserved until it is {@link #freed}. */
  void leaving(CacheEntry entry) {
    move(entry, CacheEntry.State.LEAVING);
  }

  /** The memory of one that was leaving is free. If it is wanted again it goes to the line. */
  void freed(CacheEntry entry) {
    reserved -= entry.pages();
    entry.freed();
    if (entry.wanted()) {
      move(entry, CacheEntry.State.QUEUED);
      queue.add(entry);
    } else {
      entries.remove(entry.generation().id());
    }
  }

  private void move(CacheEntry entry, CacheEntry.State state) {
    complete +=
        (state == CacheEntry.State.RESIDENT ? 1 : 0)
            - (entry.is(CacheEntry.State.RESIDENT) ? 1 : 0);
    entry.move(state);
  }

  /**
   * Checks that an adapter can ever get memory.
   *
   * @throws InfiniLoraException OVERLOADED if it is larger than the whole memory
   */
  void checkSize(AdapterGeneration generation) {
    if (generation.pages() > pages) {
      throw new InfiniLoraException(
          ErrorCode.OVERLOADED,
          "adapter %s needs %d pages of adapter memory, there are %d"
              .formatted(generation.id().name(), generation.pages(), pages));
    }
  }

  /**
   * Checks that an adapter can be pinned besides those that are.
   *
   * @throws InfiniLoraException OVERLOADED if what is pinned would not fit the memory
   */
  void checkPin(AdapterGeneration generation) {
    int pinned = generation.pages();
    for (CacheEntry e : entries.values()) {
      pinned += e.pinned() && !e.generation().id().equals(generation.id()) ? e.pages() : 0;
    }
    if (pinned > pages) {
      throw new InfiniLoraException(
          ErrorCode.OVERLOADED,
          "adapter %s cannot be pinned: the pinned adapters would take %d pages, there are %d"
              .formatted(generation.id(), pinned, pages));
    }
  }

  /** Device pages. */
  int pages() {
    return pages;
  }

  /** Pages that are reserved. */
  int reserved() {
    return reserved;
  }

  /** Pages that are reserved for adapters that somebody wants. */
  int inUse() {
    return entries.values().stream()
        .filter(e -> !e.is(CacheEntry.State.QUEUED) && e.wanted())
        .mapToInt(CacheEntry::pages)
        .sum();
  }

  /** Number of adapters whose layers are all there. */
  int complete() {
    return complete;
  }

  /**
   * Checks that pages and states agree.
   *
   * @throws IllegalStateException naming the first inconsistency
   */
  void checkInvariants() {
    int sum = 0;
    for (CacheEntry entry : entries.values()) {
      boolean queued = entry.is(CacheEntry.State.QUEUED);
      sum += queued ? 0 : entry.pages();
      check(queued == queue.contains(entry), entry, "is queued or not");
      check(queued == (entry.adapter() == null), entry, "has memory or not");
      check(
          entry.is(CacheEntry.State.RESIDENT)
              || entry.is(CacheEntry.State.LEAVING)
              || entry.wanted()
              || entry.prefetched(),
          entry,
          "is wanted by nobody");
    }
    long resident = entries.values().stream().filter(e -> e.is(CacheEntry.State.RESIDENT)).count();
    if (resident != complete) {
      throw new IllegalStateException(
          "%d adapters are resident, %d counted".formatted(resident, complete));
    }
    if (sum != reserved || reserved > pages) {
      throw new IllegalStateException(
          "%d pages reserved, %d counted, %d in all".formatted(reserved, sum, pages));
    }
  }

  private static void check(boolean condition, CacheEntry entry, String problem) {
    if (!condition) {
      throw new IllegalStateException(entry + " " + problem);
    }
  }
}
