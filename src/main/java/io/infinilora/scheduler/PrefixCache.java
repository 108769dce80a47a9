package io.infinilora.scheduler;

import io.infinilora.core.AdapterId;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * Finds the block that holds the keys and values of given tokens. A radix tree with one full block
 * per edge, stored as a hash map: a node is identified by its parent, the adapter and the block's
 * tokens. Parents are identified by numbers that are never used twice, and keys are compared by
 * content, so a hit is exact whatever the hashes are.
 */
final class PrefixCache {

  /**
   * A block whose content is known.
   *
   * @param number unique over the cache's life, from 1
   * @param key what the block holds, and behind which prefix
   * @param block index of the block
   */
  record Node(long number, Key key, int block) {}

  /** Identity by content; see the class comment. */
  private static final class Key {
    private final long parent;
    private final Optional<AdapterId> adapter;
    private final int[] tokens;
    private final int hash;

    private Key(long parent, Optional<AdapterId> adapter, int[] tokens) {
      this.parent = parent;
      this.adapter = adapter;
      this.tokens = tokens;
      this.hash = (Long.hashCode(parent) * 31 + adapter.hashCode()) * 31 + Arrays.hashCode(tokens);
    }

    @Override
    public boolean equals(Object other) {
      return other instanceof Key that
          && parent == that.parent
          && adapter.equals(that.adapter)
          && Arrays.equals(tokens, that.tokens);
    }

    @Override
    public int hashCode() {
      return hash;
    }
  }

  private static final long ROOT = 0;

  private final Map<Key, Node> nodes = new HashMap<>();
  private final Node[] byBlock;
  private long lastNumber = ROOT;

  PrefixCache(int blocks) {
    byBlock = new Node[blocks];
  }

  /**
   * The node that continues {@code parent} (null: the start of a sequence) with these tokens, or
   * null.
   */
  Node find(Node parent, Optional<AdapterId> adapter, int[] tokens) {
    return nodes.get(key(parent, adapter, tokens));
  }

  /** Declares what a block holds. Neither the content nor the block may be known already. */
  Node publish(Node parent, Optional<AdapterId> adapter, int[] tokens, int block) {
    Node node = new Node(++lastNumber, key(parent, adapter, tokens), block);
    if (byBlock[block] != null || nodes.putIfAbsent(node.key(), node) != null) {
      throw new IllegalStateException("block " + block + " or its content is published already");
    }
    byBlock[block] = node;
    return node;
  }

  /** Whether the block's content is known. */
  boolean contains(int block) {
    return byBlock[block] != null;
  }

  /** Forgets the block's content. */
  void evict(int block) {
    nodes.remove(byBlock[block].key());
    byBlock[block] = null;
  }

  /** Blocks that can never be found again, because their parent is not in the cache any more. */
  Set<Integer> unreachable() {
    Set<Long> numbers = new HashSet<>(Set.of(ROOT));
    nodes.values().forEach(node -> numbers.add(node.number()));
    return nodes.values().stream()
        .filter(node -> !numbers.contains(node.key().parent))
        .map(Node::block)
        .collect(Collectors.toSet());
  }

  private static Key key(Node parent, Optional<AdapterId> adapter, int[] tokens) {
    return new Key(parent == null ? ROOT : parent.number(), adapter, tokens);
  }
}
