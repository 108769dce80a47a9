package io.infinilora.lora;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayDeque;
import java.util.Queue;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

class DriverWatchTest {
  private final Queue<Runnable> driver = new ArrayDeque<>();
  private final AtomicInteger outages = new AtomicInteger();
  private final DriverWatch watch =
      new DriverWatch(driver::add, Runnable::run, outages::incrementAndGet);

  private void look(int times) {
    for (int i = 0; i < times; i++) {
      watch.look();
    }
  }

  /** The driver is asked, is busy for some looks, and comes by. */
  private void answerAfter(int looks) {
    look(1 + looks);
    driver.remove().run();
  }

  @Test
  void aDriverThatComesByDoesNotHang() {
    for (int i = 0; i < 100; i++) {
      answerAfter(DriverWatch.LEAST_PATIENCE - 1);
    }
    assertThat(outages).hasValue(0);
  }

  @Test
  void oneThatDoesNotIsReportedOncePerOutage() {
    look(DriverWatch.LEAST_PATIENCE);
    assertThat(outages).hasValue(0);
    look(1);
    assertThat(outages).hasValue(1);
    look(1_000);
    assertThat(outages).hasValue(1);
    assertThat(driver).hasSize(1);

    driver.remove().run();
    look(1_000);
    assertThat(outages).hasValue(2);
  }

  @Test
  void aSlowDriverHasMoreTimeUntilItHasBeenQuickForAWhile() {
    answerAfter(7);
    answerAfter(25);
    assertThat(outages).hasValue(0);
    for (int i = 0; i < 20; i++) {
      answerAfter(0);
    }
    look(1 + 25);
    assertThat(outages).hasValue(1);
  }
}
