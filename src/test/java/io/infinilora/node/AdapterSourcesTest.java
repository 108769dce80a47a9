package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.config.EngineConfig;
import io.infinilora.config.HubConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.LoraMode;
import io.infinilora.fake.FakeHub;
import io.infinilora.weights.hub.HubListener;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.FutureTask;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AdapterSourcesTest {
  private static final Path ADAPTER =
      Path.of("src/test/resources/fixtures/llama/adapters/a0").toAbsolutePath();
  private static final String REFERENCE = "hf:acme/tiny-lora";

  @TempDir private Path cache;
  private final FakeHub hub = new FakeHub("acme/tiny-lora");

  @AfterEach
  void stop() {
    hub.close();
  }

  private AdapterSources sources() {
    return AdapterSources.of(
        new InfiniLoraConfig(
            Optional.empty(),
            Optional.empty(),
            Map.of(),
            LoraMode.DISAGGREGATED,
            ServerConfig.DEFAULTS,
            EngineConfig.DEFAULTS,
            LoraConfig.DEFAULTS,
            new HubConfig(hub.endpoint(), Optional.of(cache), false, Optional.empty())),
        HubListener.NONE);
  }

  @Test
  void onlyWhatIsTrustedIsFreeOfTheRules() throws IOException {
    hub.directory(ADAPTER);
    AdapterSources sources = sources();

    assertThatThrownBy(() -> sources.directory(ADAPTER.toString(), false))
        .hasMessageContaining("lora.roots");
    assertThatThrownBy(() -> sources.directory(REFERENCE, false))
        .hasMessageContaining("lora.allowHub");
    assertThat(hub.requests()).isEmpty();
    assertThat(sources.directory(ADAPTER.toString(), true)).isEqualTo(ADAPTER);
    assertThat(sources.directory(REFERENCE, true)).isDirectoryContaining("glob:**.safetensors");
  }

  @Test
  void whoeverWantsWhatIsBeingDownloadedWaitsForIt() throws Exception {
    hub.directory(ADAPTER);
    CountDownLatch asked = new CountDownLatch(1);
    CountDownLatch goOn = new CountDownLatch(1);
    hub.next(
        FakeHub.LISTING,
        (exchange, content) -> {
          asked.countDown();
          awaitQuietly(goOn);
          exchange.sendResponseHeaders(200, content.length);
          exchange.getResponseBody().write(content);
        });
    AdapterSources sources = sources();
    FutureTask<Path> first = new FutureTask<>(() -> sources.directory(REFERENCE, true));
    FutureTask<Path> second = new FutureTask<>(() -> sources.directory(REFERENCE, true));
    Thread.ofPlatform().start(first);
    asked.await();
    Thread waiting = Thread.ofPlatform().start(second);
    // It waits for the other thread, or for the hub if it asks that itself.
    while (waiting.getState() != Thread.State.WAITING && hub.requests().size() < 2) {
      Thread.onSpinWait();
    }
    goOn.countDown();

    assertThat(second.get()).isEqualTo(first.get());
    long listings = hub.requests().stream().filter(r -> r.path().contains("/api/models/")).count();
    assertThat(listings).isEqualTo(1);
    assertThat(hub.requestsFor("adapter_model.safetensors")).hasSize(1);
  }

  private static void awaitQuietly(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
