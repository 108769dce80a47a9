package io.infinilora.wire;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.wire.ShardWatch.News;
import java.util.UUID;
import org.junit.jupiter.api.Test;

/** Which incarnation of a shard counts. */
class ShardWatchTest {
  private static final long SECOND = 1_000_000_000;

  private final ShardWatch watch = new ShardWatch();
  private final ShardNotice first = begun(100);
  private final ShardNotice second = begun(200);

  private static ShardNotice begun(long millis) {
    return new ShardNotice(0, UUID.randomUUID(), millis, null, true);
  }

  @Test
  void theOneThatBeganLastCounts() {
    assertThat(watch.heard(first, 0)).isEqualTo(News.BEGUN);
    assertThat(watch.heard(first, SECOND)).isEqualTo(News.KNOWN);
    assertThat(watch.heard(second, SECOND)).isEqualTo(News.BEGUN);
    assertThat(watch.heard(first, SECOND)).isEqualTo(News.KNOWN);
    assertThat(watch.current()).isEqualTo(second);
    assertThat(watch.heard(first.ended(), SECOND)).isEqualTo(News.KNOWN);
    assertThat(watch.current()).isEqualTo(second);
  }

  @Test
  void oneThatHasEndedDoesNotCountAgain() {
    watch.heard(first, 0);
    assertThat(watch.heard(first.ended(), 0)).isEqualTo(News.ENDED);
    assertThat(watch.current()).isNull();
    assertThat(watch.heard(first, 1)).isEqualTo(News.KNOWN);
    assertThat(watch.current()).isNull();
    assertThat(watch.heard(begun(50), 2)).isEqualTo(News.BEGUN);
  }

  @Test
  void anOlderOneCountsIfTheOtherIsSilent() {
    watch.heard(second, 0);
    watch.heard(second, 3 * SECOND);
    assertThat(watch.heard(first, 7 * SECOND)).isEqualTo(News.KNOWN);
    assertThat(watch.heard(first, 9 * SECOND)).isEqualTo(News.BEGUN);
    assertThat(watch.current()).isEqualTo(first);
  }
}
