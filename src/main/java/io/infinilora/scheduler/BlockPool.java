package io.infinilora.scheduler;

import java.util.LinkedHashSet;
import java.util.Set;

/**
 * Counts references to KV blocks. A block is in use (referenced), cached (unreferenced, content
 * known, evicted when needed, least recently released first) or free.
 */
final class BlockPool {
  private final int[] references;
  private final int[] free;
  private int freeCount;
  private final LinkedHashSet<Integer> cached = new LinkedHashSet<>();
  private final PrefixCache prefixes;

  BlockPool(int blocks, PrefixCache prefixes) {
    references = new int[blocks];
    free = new int[blocks];
    // Filled downwards, so that blocks are handed out from 0 up.
    for (int block = blocks - 1; block >= 0; block--) {
      free[freeCount++] = block;
    }
    this.prefixes = prefixes;
  }

  int size() {
    return references.length;
  }

  /** Blocks that {@link #allocate} can hand out: free and cached ones. */
  int available() {
    return freeCount + cached.size();
  }

  /** Blocks with at least one reference. */
  int inUse() {
    return size() - available();
  }

  int references(int block) {
    return references[block];
  }

  /** A block with one reference and unknown content. At least one must be available. */
  int allocate() {
    int block;
    if (freeCount > 0) {
      block = free[--freeCount];
    } else {
      block = cached.removeFirst();
      prefixes.evict(block);
    }
    references[block] = 1;
    return block;
  }

  /** Adds a reference to a block that is in use or cached. */
  void acquire(int block) {
    if (references[block]++ == 0 && !cached.remove(block)) {
      throw new IllegalStateException("block " + block + " is free and cannot be shared");
    }
  }

  /** Drops a reference. */
  void release(int block) {
    if (references[block] == 0) {
      throw new IllegalStateException("block " + block + " is released twice");
    }
    if (--references[block] > 0) {
      return;
    }
    if (prefixes.contains(block)) {
      cached.add(block);
    } else {
      free[freeCount++] = block;
    }
  }

  /** Checks that every block is in exactly one place; {@code expected} holds the true counts. */
  void checkInvariants(int[] expected) {
    boolean[] seen = new boolean[size()];
    for (int i = 0; i < freeCount; i++) {
      check(!seen[free[i]] && !prefixes.contains(free[i]), free[i], "is not plainly free");
      seen[free[i]] = true;
    }
    for (int block : cached) {
      check(!seen[block] && prefixes.contains(block), block, "is not plainly cached");
      seen[block] = true;
    }
    Set<Integer> unreachable = prefixes.unreachable();
    for (int block = 0; block < size(); block++) {
      if (references[block] != expected[block]) {
        String counts = "has %d references, %d expected";
        throw fault(block, counts.formatted(references[block], expected[block]));
      }
      check(seen[block] == (references[block] == 0), block, "is lost or used while available");
      check(!unreachable.contains(block), block, "is cached behind an evicted prefix");
    }
  }

  private static void check(boolean condition, int block, String problem) {
    if (!condition) {
      throw fault(block, problem);
    }
  }

  private static IllegalStateException fault(int block, String problem) {
    return new IllegalStateException("KV block " + block + " " + problem);
  }
}
