package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** The thread of a device, without one. */
class DeviceDriverTest {

  @Test
  void tasksRunInTheirOrderOnOneThread() {
    try (DeviceDriver driver = new DeviceDriver("test-driver")) {
      StringBuilder order = new StringBuilder();
      CompletableFuture<String> name = new CompletableFuture<>();
      driver.submit(() -> order.append("a"));
      driver.submit(() -> order.append("b"));
      driver.submit(() -> name.complete(Thread.currentThread().getName()));
      assertThat(name.orTimeout(60, TimeUnit.SECONDS).join()).isEqualTo("test-driver");
      assertThat(order).hasToString("ab");
    }
  }

  @Test
  void aTaskThatThrowsDoesNotKeepLaterOnesWaiting() {
    try (DeviceDriver driver = new DeviceDriver("test-driver")) {
      CompletableFuture<Void> later = new CompletableFuture<>();
      driver.submit(
          () -> {
            throw new IllegalStateException("a fault of the test");
          });
      driver.submit(
          () -> {
            throw new AssertionError("another");
          });
      driver.submit(() -> later.complete(null));
      later.orTimeout(10, TimeUnit.SECONDS).join();
    }
  }
}
