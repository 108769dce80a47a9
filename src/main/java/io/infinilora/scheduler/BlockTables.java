package io.infinilora.scheduler;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Gives sequences their KV blocks and shares the full ones between equal prefixes.
 *
 * <p>Invariant: a sequence's leading {@code publishedBlocks} are the prefix cache's own. So whoever
 * holds a cached block holds its parents too, and since tables are released from their end, a block
 * is always evicted before its parent.
 */
final class BlockTables {
  private final int blockSize;
  private final boolean sharing;
  private final PrefixCache prefixes;
  private final BlockPool pool;

  BlockTables(int blocks, int blockSize, boolean sharing) {
    this.blockSize = blockSize;
    this.sharing = sharing;
    prefixes = new PrefixCache(blocks);
    pool = new BlockPool(blocks, prefixes);
  }

  BlockPool pool() {
    return pool;
  }

  /** Blocks that are still to be allocated before all tokens known so far have their place. */
  int missing(Sequence sequence) {
    return blocksFor(sequence.length()) - sequence.blockCount();
  }

  /** Number of leading positions that the sequence could hold with every available block. */
  int reach(Sequence sequence) {
    return (sequence.blockCount() + pool.available()) * blockSize;
  }

  /**
   * The longest cached prefix that leaves at least the last token to be computed, since only a
   * computed row has logits. Empty for sequences that want logits of every prompt row.
   */
  List<PrefixCache.Node> match(Sequence sequence) {
    List<PrefixCache.Node> match = new ArrayList<>();
    if (!sharing || sequence.request().promptLogprobs()) {
      return match;
    }
    PrefixCache.Node node = null;
    for (int end = blockSize; end < sequence.length(); end += blockSize) {
      node = prefixes.find(node, sequence.adapter(), sequence.tokens(end - blockSize, end));
      if (node == null) {
        break;
      }
      match.add(node);
    }
    return match;
  }

  /**
   * Whether all tokens fit beside {@code reserved} further blocks, if this prefix is reused.
   *
   * @param yielding sequences that would release their blocks for it: all of some other adapters.
   *     Since adapters share no blocks, nobody else holds theirs
   */
  boolean fits(
      Sequence sequence, List<PrefixCache.Node> match, int reserved, List<Sequence> yielding) {
    int idle = 0;
    for (PrefixCache.Node node : match) {
      idle += pool.references(node.block()) == 0 ? 1 : 0;
    }
    Set<Integer> yielded = new HashSet<>();
    for (Sequence other : yielding) {
      for (int i = 0; i < other.blockCount(); i++) {
        yielded.add(other.block(i));
      }
    }
    int needed = blocksFor(sequence.length()) - match.size();
    return needed + reserved <= pool.available() - idle + yielded.size();
  }

  /** Starts the table of a sequence that has none with a cached prefix. */
  void adopt(Sequence sequence, List<PrefixCache.Node> match) {
    for (PrefixCache.Node node : match) {
      pool.acquire(node.block());
      sequence.addBlock(node.block());
    }
    int positions = match.size() * blockSize;
    sequence.published(match.size(), match.isEmpty() ? null : match.getLast());
    sequence.computed(positions);
    sequence.recordPrefixHit(positions);
  }

  /** Extends the table to cover so many positions; changes nothing and says false if it cannot. */
  boolean extend(Sequence sequence, int positions) {
    if (positions > reach(sequence)) {
      return false;
    }
    while (sequence.blockCount() < blocksFor(positions)) {
      sequence.addBlock(pool.allocate());
    }
    return true;
  }

  /** Releases the blocks behind the computed positions. */
  void trim(Sequence sequence) {
    releaseDownTo(sequence, blocksFor(sequence.computed()));
  }

  /**
   * Publishes the blocks that became full. Where another sequence published the same content first,
   * its block takes the place of this sequence's own.
   */
  void publish(Sequence sequence) {
    if (!sharing) {
      return;
    }
    int index = sequence.publishedBlocks();
    PrefixCache.Node node = sequence.lastPublished();
    for (; (index + 1) * blockSize <= sequence.computed(); index++) {
      int[] tokens = sequence.tokens(index * blockSize, (index + 1) * blockSize);
      int own = sequence.block(index);
      PrefixCache.Node first = prefixes.find(node, sequence.adapter(), tokens);
      if (first == null) {
        node = prefixes.publish(node, sequence.adapter(), tokens, own);
      } else {
        pool.acquire(first.block());
        sequence.replaceBlock(index, first.block());
        pool.release(own);
        node = first;
      }
    }
    sequence.published(index, node);
  }

  /** Releases everything; the sequence's tokens are to be computed again, if at all. */
  void release(Sequence sequence) {
    releaseDownTo(sequence, 0);
    sequence.published(0, null);
    sequence.computed(0);
  }

  private void releaseDownTo(Sequence sequence, int count) {
    while (sequence.blockCount() > count) {
      pool.release(sequence.removeLastBlock());
    }
  }

  private int blocksFor(int positions) {
    return Math.ceilDiv(positions, blockSize);
  }

  /** Checks that these are all holders of blocks, and that every block is accounted for. */
  void checkInvariants(List<Sequence> holders) {
    int[] expected = new int[pool.size()];
    for (Sequence sequence : holders) {
      for (int i = 0; i < sequence.blockCount(); i++) {
        expected[sequence.block(i)]++;
      }
      if (sequence.blockCount() < blocksFor(sequence.computed())) {
        throw new IllegalStateException(sequence + " lacks blocks for what it has computed");
      }
    }
    pool.checkInvariants(expected);
  }
}
