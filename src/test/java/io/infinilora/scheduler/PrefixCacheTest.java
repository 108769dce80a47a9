package io.infinilora.scheduler;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.AdapterId;
import java.util.Arrays;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class PrefixCacheTest {
  private static final Optional<AdapterId> BASE = Optional.empty();

  private final PrefixCache cache = new PrefixCache(8);

  @Test
  void equalHashesOfDifferentTokensAreNoHit() {
    int[] tokens = {0, 31};
    int[] colliding = {1, 0};
    assertThat(Arrays.hashCode(colliding)).isEqualTo(Arrays.hashCode(tokens));
    PrefixCache.Node node = cache.publish(null, BASE, tokens, 3);
    assertThat(cache.find(null, BASE, colliding)).isNull();
    PrefixCache.Node other = cache.publish(null, BASE, colliding, 4);
    assertThat(cache.find(null, BASE, new int[] {0, 31})).isSameAs(node);
    assertThat(cache.find(null, BASE, colliding)).isSameAs(other);
  }

  @Test
  void equalHashesOfDifferentAdaptersAreNoHit() {
    // "Aa" and "BB" have the same hash code.
    Optional<AdapterId> adapter = Optional.of(new AdapterId("x", "Aa"));
    Optional<AdapterId> colliding = Optional.of(new AdapterId("x", "BB"));
    assertThat(adapter).hasSameHashCodeAs(colliding);
    cache.publish(null, adapter, new int[] {1, 2}, 0);
    assertThat(cache.find(null, colliding, new int[] {1, 2})).isNull();
  }

  @Test
  void theSameTokensBehindAnotherPrefixOrAdapterAreNoHit() {
    Optional<AdapterId> adapter = Optional.of(new AdapterId("a", "1"));
    PrefixCache.Node first = cache.publish(null, BASE, new int[] {1, 2}, 0);
    cache.publish(first, BASE, new int[] {3, 4}, 1);
    assertThat(cache.find(null, BASE, new int[] {3, 4})).isNull();
    assertThat(cache.find(first, adapter, new int[] {3, 4})).isNull();
    assertThat(cache.find(null, adapter, new int[] {1, 2})).isNull();
  }

  @Test
  void whatFollowedAnEvictedBlockIsNotFoundBehindItsSuccessor() {
    PrefixCache.Node first = cache.publish(null, BASE, new int[] {1, 2}, 0);
    cache.publish(first, BASE, new int[] {3, 4}, 1);
    cache.evict(0);
    assertThat(cache.unreachable()).containsExactly(1);
    PrefixCache.Node again = cache.publish(null, BASE, new int[] {1, 2}, 0);
    assertThat(cache.find(again, BASE, new int[] {3, 4})).isNull();
  }

  @Test
  void aBlockAndItsContentArePublishedOnce() {
    cache.publish(null, BASE, new int[] {1, 2}, 0);
    assertThatThrownBy(() -> cache.publish(null, BASE, new int[] {5, 6}, 0))
        .isInstanceOf(IllegalStateException.class);
    assertThatThrownBy(() -> cache.publish(null, BASE, new int[] {1, 2}, 1))
        .isInstanceOf(IllegalStateException.class);
  }
}
