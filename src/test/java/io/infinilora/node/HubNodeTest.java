package io.infinilora.node;

import static io.infinilora.node.Generations.await;
import static io.infinilora.node.Generations.greedy;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.config.EngineConfig;
import io.infinilora.config.HubConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.WeightSource;
import io.infinilora.fake.FakeHub;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.weights.hub.Hub;
import io.infinilora.weights.hub.HubListener;
import io.vertx.core.Vertx;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A node whose model and adapters are on a hub. */
class HubNodeTest {
  private static final Path FIXTURE = Path.of("src/test/resources/fixtures/llama");
  private static final int[] PROMPT = {5, 17, 99, 3, 42};
  private static final int TOKENS = 12;

  @TempDir private Path cache;
  private final FakeHub models = new FakeHub("acme/tiny");
  private final FakeHub adapters = new FakeHub("acme/tiny-lora");

  @BeforeEach
  void fill() throws IOException {
    models.directory(FIXTURE);
    adapters.directory(FIXTURE.resolve("adapters/a0"));
  }

  @AfterEach
  void stop() {
    models.close();
    adapters.close();
  }

  @Test
  void whatWasPulledIsServedAsTheSameFilesAre() {
    try (Hub hub = new Hub(settings(adapters, false), HubListener.NONE)) {
      hub.pull(HubReference.parse("acme/tiny-lora"), List.of());
    }
    try (Hub hub = new Hub(settings(models, false), HubListener.NONE)) {
      hub.pull(HubReference.parse("acme/tiny"), List.of());
    }
    // Offline, so that both come from the cache that the pulls have filled.
    Map<String, WeightSource> named =
        Map.of(
            "remote", WeightSource.parse("hf:acme/tiny-lora"),
            "local", WeightSource.parse(FIXTURE.resolve("adapters/a0").toString()));
    List<Integer> expected = tokens(localModel(), "local");

    List<Integer> fromHub =
        tokens(config(WeightSource.parse("hf:acme/tiny"), named, models, true), "remote");

    assertThat(fromHub).isEqualTo(expected);
  }

  @Test
  void aModelIsDownloadedAtStart() {
    List<Integer> expected = tokens(localModel(), null);

    assertThat(tokens(config(WeightSource.parse("hf:acme/tiny"), Map.of(), models, false), null))
        .isEqualTo(expected);
    assertThat(models.requestsFor("model.safetensors")).hasSize(1);
  }

  @Test
  void anAdapterThatTheHubDoesNotGiveIsRefusedByNameAlone() {
    Map<String, WeightSource> named =
        Map.of(
            "missing", WeightSource.parse("hf:acme/missing"),
            "remote", WeightSource.parse("hf:acme/tiny-lora"),
            "broken", WeightSource.parse(FIXTURE.resolve("nothing").toString()));
    Node node =
        await(
            Node.start(
                Vertx.vertx(),
                config(new WeightSource.Local(FIXTURE), named, adapters, false),
                EngineMetrics.NONE));
    try {
      assertThat(node.engine().adapters().stream().map(AdapterId::name)).containsExactly("remote");
      assertThat(node.adapterReport().failures())
          .extracting(Throwable::getMessage)
          .satisfiesExactlyInAnyOrder(
              message -> assertThat(message).startsWith("missing: hf:acme/missing: not found"),
              message -> assertThat(message).startsWith("broken: " + FIXTURE + "/nothing"));
    } finally {
      await(node.close());
    }
  }

  @ParameterizedTest
  @CsvSource({"COUPLED, 1x1", "DISAGGREGATED, 1x2"})
  void anAdapterIsDownloadedWhileServingIfThatIsAllowed(LoraMode mode, String grid) {
    List<Integer> expected = tokens(localModel(), "local");
    InfiniLoraConfig config =
        new InfiniLoraConfig(
            Optional.of(new WeightSource.Local(FIXTURE)),
            Optional.empty(),
            Map.of(),
            mode,
            ServerConfig.DEFAULTS,
            EngineConfig.DEFAULTS,
            new LoraConfig(
                LoraConfig.DEFAULTS.deviceMemory(),
                LoraConfig.DEFAULTS.hostMemory(),
                LoraConfig.DEFAULTS.eviction(),
                LoraGrid.parse(grid),
                LoraConfig.DEFAULT_ADAPTER_WAIT,
                LoraConfig.DEFAULT_RETRY_FOR,
                Optional.empty(),
                true,
                Optional.empty()),
            settings(adapters, false));
    Node node = await(Node.start(Vertx.vertx(), config, EngineMetrics.NONE));
    try {
      AdapterLoad load = new AdapterLoad("x", "hf:acme/tiny-lora", false, false, false, false);
      node.adapters().load(load).await().atMost(Duration.ofMinutes(1));

      assertThat(greedy(node.engine(), PROMPT, Optional.of("x"), TOKENS).join())
          .isEqualTo(expected);
      assertThat(adapters.requestsFor("adapter_model.safetensors")).hasSize(1);
      AdapterLoad missing = new AdapterLoad("y", "hf:acme/missing", false, false, false, false);
      assertThatThrownBy(() -> node.adapters().load(missing).await().atMost(Duration.ofMinutes(1)))
          .isInstanceOfSatisfying(
              InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.BAD_ADAPTER))
          .hasMessageStartingWith("hf:acme/missing: not found");
    } finally {
      await(node.close());
    }
  }

  @Test
  void aModelThatTheHubDoesNotGiveIsFatal() {
    Vertx vertx = Vertx.vertx();
    assertThatThrownBy(
            () ->
                await(
                    Node.start(
                        vertx,
                        config(WeightSource.parse("hf:acme/other"), Map.of(), models, false),
                        EngineMetrics.NONE)))
        .isInstanceOf(CompletionException.class)
        .cause()
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageStartingWith("hf:acme/other: not found (HTTP 404)");
    await(vertx.close());
  }

  @Test
  void withoutLoraNoAdapterIsDownloaded() {
    InfiniLoraConfig config =
        new InfiniLoraConfig(
            Optional.of(new WeightSource.Local(FIXTURE)),
            Optional.empty(),
            Map.of("remote", WeightSource.parse("hf:acme/tiny-lora")),
            LoraMode.NONE,
            ServerConfig.DEFAULTS,
            EngineConfig.DEFAULTS,
            LoraConfig.DEFAULTS,
            settings(adapters, false));
    await(await(Node.start(Vertx.vertx(), config, EngineMetrics.NONE)).close());

    assertThat(adapters.requests()).isEmpty();
  }

  private InfiniLoraConfig localModel() {
    Map<String, WeightSource> named =
        Map.of("local", new WeightSource.Local(FIXTURE.resolve("adapters/a0")));
    return config(new WeightSource.Local(FIXTURE), named, models, true);
  }

  private InfiniLoraConfig config(
      WeightSource model, Map<String, WeightSource> named, FakeHub server, boolean offline) {
    return new InfiniLoraConfig(
        Optional.of(model),
        Optional.empty(),
        named,
        LoraMode.DISAGGREGATED,
        ServerConfig.DEFAULTS,
        EngineConfig.DEFAULTS,
        LoraConfig.DEFAULTS,
        settings(server, offline));
  }

  private HubConfig settings(FakeHub server, boolean offline) {
    return new HubConfig(server.endpoint(), Optional.of(cache), offline, Optional.empty());
  }

  private static List<Integer> tokens(InfiniLoraConfig config, String adapter) {
    Node node = await(Node.start(Vertx.vertx(), config, EngineMetrics.NONE));
    try {
      assertThat(node.adapterReport().failures()).isEmpty();
      return greedy(node.engine(), PROMPT, Optional.ofNullable(adapter), TOKENS).join();
    } finally {
      await(node.close());
    }
  }
}
