package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.HubConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.LoraMode;
import io.infinilora.core.WeightSource;
import io.infinilora.node.ServedNode.Answer;
import java.io.IOException;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.slf4j.LoggerFactory;

/** Changing adapters over HTTP while the real engine serves. */
class AdapterHttpTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final Path ADAPTERS = MODEL.resolve("adapters").toAbsolutePath();
  private static final int[] PROMPT = {5, 17, 99, 3, 42};
  private static final int TOKENS = 12;
  private static final String LOAD = "/v1/load_lora_adapter";
  private static final String UNLOAD = "/v1/unload_lora_adapter";

  @TempDir private Path root;

  @BeforeEach
  void fill() throws IOException {
    for (String name : List.of("a0", "a1")) {
      copy(ADAPTERS.resolve(name), root.resolve(name));
    }
  }

  private static void copy(Path from, Path to) throws IOException {
    Files.createDirectories(to);
    for (String file : List.of("adapter_config.json", "adapter_model.safetensors")) {
      Files.copy(from.resolve(file), to.resolve(file));
    }
  }

  private ServedNode serve(LoraMode mode) {
    return serve(mode, false);
  }

  private ServedNode serve(LoraMode mode, boolean watch) {
    return new ServedNode(
        new InfiniLoraConfig(
            Optional.of(new WeightSource.Local(MODEL)),
            watch ? Optional.of(root) : Optional.empty(),
            Map.of(),
            mode,
            ServerConfig.DEFAULTS,
            new EngineConfig(
                Optional.of(1),
                Optional.of(1),
                Optional.empty(),
                ByteSize.mebibytes(4),
                8,
                32,
                64,
                16,
                true,
                EngineConfig.DEFAULT_POLICY,
                EngineConfig.DEFAULT_STEP_DEADLINE),
            new LoraConfig(
                ByteSize.mebibytes(16),
                ByteSize.mebibytes(16),
                LoraConfig.DEFAULTS.eviction(),
                LoraConfig.DEFAULTS.shards(),
                LoraConfig.DEFAULT_ADAPTER_WAIT,
                LoraConfig.DEFAULT_RETRY_FOR,
                Optional.of(List.of(root)),
                false,
                watch ? Optional.of(Duration.ofDays(1)) : Optional.empty()),
            HubConfig.DEFAULTS));
  }

  private static String load(String name, Path source, String more) {
    return "{\"lora_name\":\"%s\",\"lora_path\":\"%s\"%s}".formatted(name, source, more);
  }

  private static String named(String name, String more) {
    return "{\"lora_name\":\"%s\"%s}".formatted(name, more);
  }

  private static void assertLoaded(HttpResponse<String> response, String name) {
    assertThat(response.body())
        .isEqualTo("Success: LoRA adapter '" + name + "' added successfully");
    assertThat(response.statusCode()).isEqualTo(200);
  }

  private static void assertRefused(HttpResponse<String> response, int status, String... parts) {
    assertThat(response.statusCode()).as(response.body()).isEqualTo(status);
    JsonNode error = ServedNode.json(response.body()).path("error");
    assertThat(error.path("message").asText()).contains(parts);
    assertThat(error.path("param").isNull()).isTrue();
    assertThat(error.path("code").asInt()).isEqualTo(status);
    assertThat(error.path("type").asText())
        .isEqualTo(
            switch (status) {
              case 400 -> "InvalidUserInput";
              case 404 -> "NotFoundError";
              default -> "ConflictError";
            });
  }

  private static List<String> models(ServedNode server) {
    List<String> names = new ArrayList<>();
    ServedNode.json(server.get("/v1/models").body())
        .path("data")
        .forEach(model -> names.add(model.path("id").asText()));
    return names;
  }

  private static JsonNode listed(ServedNode server, String name) {
    for (JsonNode adapter : ServedNode.json(server.get("/v1/lora_adapters").body()).path("data")) {
      if (adapter.path("id").asText().equals(name)) {
        return adapter;
      }
    }
    throw new AssertionError(name + " is not listed");
  }

  private static String body(String model) {
    return ServedNode.body(model, PROMPT, TOKENS, true);
  }

  private static List<Integer> tokens(ServedNode server, String model) {
    Answer answer = server.complete(body(model)).join();
    assertThat(answer.status()).as(answer.response().body()).isEqualTo(200);
    assertThat(answer.tokens()).hasSize(TOKENS);
    return answer.tokens();
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void anAdapterComesAndGoesWhileTheServerRuns(LoraMode mode) {
    try (ServedNode server = serve(mode)) {
      List<Integer> base = tokens(server, ServedNode.BASE);
      assertThat(models(server)).containsExactly(ServedNode.BASE);

      assertLoaded(server.post(LOAD, load("x/y", root.resolve("a0"), "")), "x/y");

      assertThat(models(server)).containsExactly(ServedNode.BASE, "x/y");
      assertThat(tokens(server, "x/y")).isNotEqualTo(base);
      JsonNode adapter = listed(server, "x/y");
      assertThat(adapter.path("digest").asText()).hasSize(64);
      assertThat(adapter.path("source").asText()).endsWith("/a0");
      assertThat(adapter.path("targets").toString()).isEqualTo("[\"q\",\"k\",\"v\",\"o\"]");
      assertThat(adapter.path("max_rank").asInt()).isEqualTo(4);
      assertThat(adapter.path("file_bytes").asLong()).isPositive();
      assertThat(adapter.path("device_bytes").asLong()).isPositive();
      // Told to the cache only after the last layer has been computed with.
      server.until(() -> listed(server, "x/y").path("tier").asText().equals("device"));
      assertThat(adapter.path("pinned").asBoolean()).isFalse();

      HttpResponse<String> pin = server.post("/v1/lora_adapters/x/y/pin", "{\"pinned\":true}");
      assertThat(ServedNode.json(pin.body()).path("pinned").asBoolean()).isTrue();
      assertThat(listed(server, "x/y").path("pinned").asBoolean()).isTrue();
      server.post("/v1/lora_adapters/x/y/pin", "{\"pinned\":false}");
      assertThat(listed(server, "x/y").path("pinned").asBoolean()).isFalse();
      assertThat(server.post("/v1/lora_adapters/x/y/prefetch", "").statusCode()).isEqualTo(200);
      assertRefused(server.post("/v1/lora_adapters/z/prefetch", ""), 404, "z");
      assertRefused(server.post("/v1/lora_adapters/x/y/pin", "{}"), 400, "pinned");

      HttpResponse<String> removed = server.post(UNLOAD, named("x/y", ",\"lora_int_id\":null"));
      assertThat(removed.body()).isEqualTo("Success: LoRA adapter 'x/y' removed successfully");
      assertThat(removed.statusCode()).isEqualTo(200);

      assertThat(models(server)).containsExactly(ServedNode.BASE);
      assertThat(server.complete(body("x/y")).join().status()).isEqualTo(404);
      assertRefused(server.post(UNLOAD, named("x/y", "")), 404, "x/y");
    }
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void aRunningStreamFinishesOnTheGenerationThatItBeganWith(LoraMode mode) {
    try (ServedNode server = serve(mode)) {
      assertLoaded(server.post(LOAD, load("x", root.resolve("a0"), "")), "x");
      assertLoaded(server.post(LOAD, load("y", root.resolve("a1"), "")), "y");
      List<Integer> first = tokens(server, "x");
      List<Integer> second = tokens(server, "y");
      assertThat(second).isNotEqualTo(first);
      server.gate.allow(3);
      CompletableFuture<Answer> running = server.complete(body("x"));
      server.gate.awaitHeld();

      assertRefused(server.post(LOAD, load("x", root.resolve("a1"), "")), 400, "x", "load_inplace");
      String inPlace = ",\"load_inplace\":true";
      assertLoaded(server.post(LOAD, load("x", root.resolve("a1"), inPlace)), "x");
      CompletableFuture<Answer> fresh = server.complete(body("x"));
      server.gate.open();

      assertThat(running.join().tokens()).isEqualTo(first);
      assertThat(fresh.join().tokens()).isEqualTo(second);
      assertThat(models(server)).containsExactly(ServedNode.BASE, "x", "y");
    }
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void anUnloadWaitsForRunningStreamsOrIsRefused(LoraMode mode) {
    try (ServedNode server = serve(mode)) {
      assertLoaded(server.post(LOAD, load("x", root.resolve("a0"), "")), "x");
      List<Integer> expected = tokens(server, "x");
      server.gate.allow(3);
      CompletableFuture<Answer> running = server.complete(body("x"));
      server.gate.awaitHeld();

      String refuse = ",\"when_in_use\":\"refuse\"";
      assertRefused(server.post(UNLOAD, named("x", refuse)), 409, "x", "in use");
      assertRefused(
          server.post(UNLOAD, named("x", ",\"when_in_use\":\"now\"")), 400, "when_in_use");
      CompletableFuture<HttpResponse<String>> unload =
          server.postAsync(UNLOAD, named("x", ",\"when_in_use\":\"wait\""));
      server.until(() -> !models(server).contains("x"));
      assertThat(server.complete(body("x")).join().status()).isEqualTo(404);
      assertThat(unload).isNotDone();
      server.gate.open();

      assertThat(running.join().tokens()).isEqualTo(expected);
      assertThat(unload.join().statusCode()).isEqualTo(200);
    }
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void aGenerationThatCannotBeLoadedLeavesTheOldOneServing(LoraMode mode) throws IOException {
    Path broken = root.resolve("broken");
    copy(ADAPTERS.resolve("a1"), broken);
    byte[] weights = Files.readAllBytes(broken.resolve("adapter_model.safetensors"));
    weights[weights.length - 1] = (byte) 0x7f;
    weights[weights.length - 2] = (byte) 0xc0;
    Files.write(broken.resolve("adapter_model.safetensors"), weights);
    try (ServedNode server = serve(mode)) {
      assertLoaded(server.post(LOAD, load("x", root.resolve("a0"), "")), "x");
      List<Integer> expected = tokens(server, "x");

      assertRefused(
          server.post(LOAD, load("x", broken, ",\"load_inplace\":true")), 400, "not finite");

      assertThat(tokens(server, "x")).isEqualTo(expected);
      assertThat(listed(server, "x").path("source").asText()).endsWith("/a0");
    }
  }

  @Test
  void adaptersComeFromBelowTheRootsAlone() throws IOException {
    Files.createSymbolicLink(root.resolve("link"), ADAPTERS.resolve("a0"));
    Path half = Files.createDirectory(root.resolve("half"));
    Files.copy(root.resolve("a0/adapter_config.json"), half.resolve("adapter_config.json"));
    Files.createSymbolicLink(
        half.resolve("adapter_model.safetensors"),
        ADAPTERS.resolve("a0/adapter_model.safetensors"));
    try (ServedNode server = serve(LoraMode.DISAGGREGATED)) {
      List<Path> outside =
          List.of(
              ADAPTERS.resolve("a0"),
              root.resolve("a0/../../../etc"),
              root,
              root.resolve("link"),
              half,
              root.resolve("missing"));
      for (Path path : outside) {
        assertRefused(server.post(LOAD, load("x", path, "")), 400, path.toString(), "lora.roots");
      }
      assertRefused(
          server.post(LOAD, load("x", Path.of("hf:acme/lora"), "")), 400, "lora.allowHub");
      assertRefused(server.post(LOAD, load("", root.resolve("a0"), "")), 400, "lora_name");
      assertRefused(
          server.post(LOAD, load(ServedNode.BASE, root.resolve("a0"), "")), 400, "base model");
      assertRefused(server.post(LOAD, "{\"lora_name\":\"x\"}"), 400, "lora_path is required");
      assertThat(models(server)).containsExactly(ServedNode.BASE);
      assertLoaded(server.post(LOAD, load("x", root.resolve("a1/../a0"), "")), "x");
    }
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void aWatchedDirectoryIsFollowedOnceItHasSettled(LoraMode mode) throws IOException {
    try (ServedNode server = serve(mode, true)) {
      assertThat(models(server)).containsExactly(ServedNode.BASE, "a0", "a1");
      List<Integer> first = tokens(server, "a0");
      List<Integer> second = tokens(server, "a1");

      copy(ADAPTERS.resolve("a1"), root.resolve("new"));
      server.poll();
      assertThat(models(server)).doesNotContain("new");
      server.poll();
      assertThat(models(server)).containsExactly(ServedNode.BASE, "a0", "a1", "new");
      assertThat(tokens(server, "new")).isEqualTo(second);

      replace("a0", "new");
      server.poll();
      assertThat(tokens(server, "a0")).isEqualTo(first);
      server.poll();
      assertThat(tokens(server, "a0")).isEqualTo(second);

      Path weights = root.resolve("a0/adapter_model.safetensors");
      Files.delete(weights);
      Files.write(weights, new byte[100]);
      server.poll();
      server.poll();
      assertThat(tokens(server, "a0")).isEqualTo(second);

      Files.move(root.resolve("a1"), Files.createDirectory(root.resolve("away")).resolve("a1"));
      server.poll();
      assertThat(models(server)).contains("a1");
      server.poll();
      server.until(() -> !models(server).contains("a1"));
      assertThat(models(server)).containsExactly(ServedNode.BASE, "a0", "new");
    }
  }

  @Test
  void aDirectoryThatIsGoneIsReportedOnce() throws IOException {
    ListAppender<ILoggingEvent> said = new ListAppender<>();
    said.start();
    Logger log = (Logger) LoggerFactory.getLogger(AdapterWatch.class);
    log.addAppender(said);
    try (ServedNode server = serve(LoraMode.DISAGGREGATED, true)) {
      Path away = root.resolveSibling(root.getFileName() + "-away");
      Files.move(root, away);
      server.follow();
      server.follow();
      Files.move(away, root);
      server.follow();

      assertThat(said.list)
          .extracting(ILoggingEvent::getFormattedMessage)
          .containsExactly(
              "changes are not followed for now: adapters: cannot list %s: there is no such file or directory"
                  .formatted(root));
      assertThat(models(server)).contains("a0", "a1");
    } finally {
      log.detachAppender(said);
    }
  }

  /** Puts the files of one adapter into another's place. */
  private void replace(String name, String by) throws IOException {
    Path directory = root.resolve(name);
    Files.move(directory, root.resolve("old"));
    copy(root.resolve(by), directory);
    Files.delete(root.resolve("old/adapter_config.json"));
  }

  @Test
  void aServerWithoutLoraTakesNoAdapters() {
    try (ServedNode server = serve(LoraMode.NONE)) {
      assertRefused(server.post(LOAD, load("x", root.resolve("a0"), "")), 400, "loraMode none");
    }
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void aDryRunShowsWhatAnAdapterWouldDoAndChangesNothing(LoraMode mode) {
    try (ServedNode server = serve(mode)) {
      HttpResponse<String> tried =
          server.post(LOAD, load("x", root.resolve("a0"), ",\"dry_run\":true"));

      assertThat(tried.statusCode()).as(tried.body()).isEqualTo(200);
      JsonNode proof = ServedNode.json(tried.body());
      assertThat(proof.path("id").asText()).isEqualTo("x");
      assertThat(proof.path("matched_tensors").path("count").asInt()).isEqualTo(16);
      assertThat(proof.path("matched_tensors").path("by_target").path("q").asInt()).isEqualTo(4);
      assertThat(proof.path("delta_norms")).hasSize(8);
      assertThat(proof.path("delta_norms").path(0).path("norm").asDouble()).isPositive();
      assertThat(proof.path("bytes").path("device").asLong()).isPositive();
      assertThat(proof.path("max_logprob_change").asDouble()).isPositive();
      assertThat(models(server)).containsExactly(ServedNode.BASE);
      assertThat(ServedNode.json(server.get("/v1/lora_adapters").body()).path("data")).isEmpty();
    }
  }

  @Test
  void anAdapterThatChangesNothingIsRefusedUnlessItIsWanted() throws IOException {
    Path idle = root.resolve("idle");
    copy(ADAPTERS.resolve("a0"), idle);
    Path file = idle.resolve("adapter_model.safetensors");
    byte[] weights = Files.readAllBytes(file);
    int header = Math.toIntExact(weights[0] & 0xff | (weights[1] & 0xff) << 8);
    Arrays.fill(weights, 8 + header, weights.length, (byte) 0);
    Files.write(file, weights);
    try (ServedNode server = serve(LoraMode.DISAGGREGATED)) {
      List<Integer> base = tokens(server, ServedNode.BASE);

      assertRefused(server.post(LOAD, load("x", idle, "")), 400, "changes nothing");

      String dry = ",\"allow_no_effect\":true,\"dry_run\":true";
      JsonNode proof = ServedNode.json(server.post(LOAD, load("x", idle, dry)).body());
      assertThat(proof.path("max_logprob_change").asDouble(-1)).isZero();
      assertLoaded(server.post(LOAD, load("x", idle, ",\"allow_no_effect\":true")), "x");
      assertThat(tokens(server, "x")).isEqualTo(base);
    }
  }
}
