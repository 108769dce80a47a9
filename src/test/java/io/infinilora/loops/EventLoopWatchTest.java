package io.infinilora.loops;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.loops.EventLoopWatch.Sight;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** The watch notices what it is there for, and takes a starved thread for innocent. */
class EventLoopWatchTest {
  private final EventLoopWatch watch = new EventLoopWatch();

  @AfterEach
  void close() {
    watch.vertx().close().toCompletionStage().toCompletableFuture().join();
  }

  @Test
  void noticesAnEventLoopThatWaits() throws Exception {
    CountDownLatch noticed = new CountDownLatch(1);
    watch.vertx().runOnContext(ignored -> waitFor(noticed));

    String offence = watch.offence().get(60, TimeUnit.SECONDS);
    noticed.countDown();

    assertThat(offence).contains("waited").contains("EventLoopWatchTest.waitFor");
    assertThatThrownBy(watch::assertSilent).hasMessageContaining("EventLoopWatchTest.waitFor");
  }

  @Test
  void noticesAnEventLoopThatComputes() throws Exception {
    watch.vertx().runOnContext(ignored -> compute());

    String offence = watch.offence().get(60, TimeUnit.SECONDS);

    assertThat(offence).contains("computed").contains("EventLoopWatchTest.compute");
  }

  @Test
  void isSilentAboutShortTasks() throws Exception {
    for (int i = 0; i < 1000; i++) {
      CountDownLatch done = new CountDownLatch(1);
      watch.vertx().runOnContext(ignored -> done.countDown());
      done.await();
    }

    watch.assertSilent();
  }

  @Test
  void takesAThreadWithoutAProcessorForInnocent() {
    Sight first = new Sight(0, 0, false, true);
    Sight secondsLater = new Sight(9_000_000_000L, 1_000_000, false, true);

    assertThat(EventLoopWatch.judge(first, first, secondsLater)).isNull();
  }

  @Test
  void takesForeignCodeAndALockThatIsHeldForAMomentForInnocent() {
    Sight foreign = new Sight(0, 0, true, false);
    Sight waits = new Sight(1, 0, true, true);
    Sight runs = new Sight(2, 0, false, true);

    assertThat(EventLoopWatch.judge(foreign, foreign, foreign)).isNull();
    assertThat(EventLoopWatch.judge(runs, runs, waits)).isNull();
    assertThat(EventLoopWatch.judge(runs, waits, runs)).isNull();
    assertThat(EventLoopWatch.judge(runs, waits, waits)).isEqualTo("waited");
  }

  private static void waitFor(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private void compute() {
    while (!watch.offence().isDone()) {
      Thread.onSpinWait();
    }
  }
}
