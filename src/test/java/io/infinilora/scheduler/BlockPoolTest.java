package io.infinilora.scheduler;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Optional;
import org.junit.jupiter.api.Test;

class BlockPoolTest {
  private final PrefixCache prefixes = new PrefixCache(3);
  private final BlockPool pool = new BlockPool(3, prefixes);

  @Test
  void cachedBlocksAreEvictedWhenNoneIsFreeOldestReleaseFirst() {
    int a = published(1);
    int b = published(2);
    int c = pool.allocate();
    pool.release(b);
    pool.release(a);
    assertThat(pool.available()).isEqualTo(2);
    assertThat(pool.allocate()).isEqualTo(b);
    assertThat(prefixes.contains(b)).isFalse();
    assertThat(prefixes.contains(a)).isTrue();
    pool.checkInvariants(expected(b, c));
  }

  @Test
  void aFreeBlockIsPreferredToACachedOne() {
    int a = published(1);
    pool.release(a);
    assertThat(pool.allocate()).isNotEqualTo(a);
    assertThat(pool.allocate()).isNotEqualTo(a);
    assertThat(prefixes.contains(a)).isTrue();
    assertThat(pool.inUse()).isEqualTo(2);
  }

  @Test
  void aSharedBlockStaysUntilItsLastReferenceGoes() {
    int a = published(1);
    pool.acquire(a);
    pool.release(a);
    assertThat(pool.inUse()).isEqualTo(1);
    pool.release(a);
    assertThat(pool.inUse()).isZero();
    pool.acquire(a);
    assertThat(pool.references(a)).isEqualTo(1);
  }

  @Test
  void doubleReleaseAndSharingAFreeBlockAreErrors() {
    int a = pool.allocate();
    pool.release(a);
    assertThatThrownBy(() -> pool.release(a)).hasMessageContaining("released twice");
    assertThatThrownBy(() -> pool.acquire(a)).hasMessageContaining("is free");
  }

  @Test
  void aWrongCountIsFound() {
    int a = pool.allocate();
    assertThatThrownBy(() -> pool.checkInvariants(new int[3]))
        .hasMessage("KV block " + a + " has 1 references, 0 expected");
  }

  private int published(int token) {
    int block = pool.allocate();
    prefixes.publish(null, Optional.empty(), new int[] {token}, block);
    return block;
  }

  private static int[] expected(int... blocks) {
    int[] counts = new int[3];
    for (int block : blocks) {
      counts[block]++;
    }
    return counts;
  }
}
