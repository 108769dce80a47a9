package io.infinilora.weights.hub;

import static io.infinilora.fake.FakeHub.COMMIT;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Stream;
import org.assertj.core.api.AbstractThrowableAssert;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Which files of a repository are used, online and offline. */
class HubFilesTest {
  @TempDir private Path cache;
  private HubFixture fixture;

  @BeforeEach
  void start() {
    fixture = new HubFixture(cache);
  }

  @AfterEach
  void stop() {
    fixture.close();
  }

  @Test
  void onlyWhatServingNeedsIsDownloaded() {
    has(
        ".gitattributes",
        "README.md",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "vocab.json",
        "merges.txt",
        "model.safetensors",
        "consolidated.safetensors",
        "pytorch_model.bin",
        "tiny.gguf",
        "onnx/model.onnx",
        "original/model.safetensors");

    assertThat(files(fixture.pull()))
        .containsExactlyInAnyOrder(
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "chat_template.jinja",
            "model.safetensors");
  }

  @Test
  void vocabularyAndMergesStandInForATokenizer() {
    has("config.json", "model.safetensors", "vocab.json", "merges.txt");

    assertThat(files(fixture.pull())).contains("vocab.json", "merges.txt");
  }

  @Test
  void theIndexSaysWhichShardsAreNeeded() {
    has("config.json", "model-1.safetensors", "model-2.safetensors", "other.safetensors");
    index("model-1.safetensors", "model-2.safetensors");

    assertThat(files(fixture.pull()))
        .containsExactlyInAnyOrder(
            "config.json",
            "model.safetensors.index.json",
            "model-1.safetensors",
            "model-2.safetensors");
  }

  @ParameterizedTest
  @ValueSource(strings = {"../../x.safetensors", "/x.safetensors", "x.bin", ""})
  void anIndexThatPointsElsewhereIsRefused(String shard) {
    has("config.json");
    index(shard);

    assertRefused(this::pull, "hf:acme/tiny")
        .hasMessageContaining(
            "places tensors in \"" + shard + "\", which is no safetensors file of a repository");
  }

  @Test
  void anIndexWithAMissingShardIsRefused() {
    has("config.json", "model-1.safetensors");
    index("model-1.safetensors", "model-2.safetensors");

    assertRefused(this::pull, "hf:acme/tiny")
        .hasMessageContaining("the repository has no model-2.safetensors");
  }

  @Test
  void anAdapterIsItsTwoFiles() {
    has("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "training_args.bin");

    assertThat(files(pull("hf:acme/tiny")))
        .containsExactly("adapter_config.json", "adapter_model.safetensors");
    assertThat(files(with(hub -> hub.adapter(HubFixture.REFERENCE)))).hasSize(2);
    assertRefused(text -> with(hub -> hub.model(HubFixture.REFERENCE)), "")
        .hasMessageContaining(
            "is an adapter, not a model; serve it with --adapter NAME=hf:acme/tiny");
  }

  @Test
  void aModelIsNoAdapter() {
    has("config.json", "model.safetensors");

    assertRefused(text -> with(hub -> hub.adapter(HubFixture.REFERENCE)), "")
        .hasMessageContaining("has no adapter_config.json, so it is not an adapter");
  }

  @Test
  void aModelWithAnAdapterBesideItIsBoth() {
    has("config.json", "model.safetensors", "adapter_config.json", "adapter_model.safetensors");

    assertThat(files(fixture.pull())).hasSize(4);
    assertThat(files(with(hub -> hub.adapter(HubFixture.REFERENCE)))).hasSize(4);
  }

  @Test
  void picklesAreNeverDownloaded() {
    has("config.json", "pytorch_model.bin", "optimizer.pt");

    assertRefused(this::pull, "hf:acme/tiny")
        .hasMessageContaining("its weights are pickles (pytorch_model.bin, optimizer.pt)");
    assertThat(fixture.server.requests()).hasSize(1);
  }

  @Test
  void aPickledAdapterIsRefused() {
    has("adapter_config.json", "adapter_model.bin");

    assertRefused(this::pull, "hf:acme/tiny")
        .hasMessageContaining("has no adapter_model.safetensors; its weights are pickles");
  }

  @Test
  void aRepositoryWithoutWeightsIsRefused() {
    has("config.json", "README.md");

    assertRefused(this::pull, "hf:acme/tiny").hasMessageEndingWith("nor a GGUF file");
  }

  @Test
  void theOnlyGgufNeedsNoChoice() {
    has("README.md", "tiny.gguf");

    assertThat(pull("hf:acme/tiny")).isEqualTo(snapshot().resolve("tiny.gguf")).exists();
  }

  @Test
  void oneOfSeveralGgufsIsChosen() {
    has("tiny.Q4_K_M.gguf", "tiny.Q8_0.gguf", "big/tiny.F16.gguf");

    assertRefused(this::pull, "hf:acme/tiny")
        .hasMessage(
            "hf:acme/tiny: the repository has several GGUF files; choose one as hf:acme/tiny:FILE."
                + " They are big/tiny.F16.gguf, tiny.Q4_K_M.gguf, tiny.Q8_0.gguf");
    assertRefused(this::pull, "hf:acme/tiny:tiny.Q2.gguf")
        .hasMessageContaining("the repository has no tiny.Q2.gguf; it has big/tiny.F16.gguf, ");
    assertRefused(this::pull, "hf:acme/tiny:config.json")
        .hasMessageContaining("config.json is no GGUF file");

    assertThat(pull("hf:acme/tiny:tiny.Q8_0.gguf")).exists();
    assertThat(pull("hf:acme/tiny:big/tiny.F16.gguf"))
        .isEqualTo(snapshot().resolve("big/tiny.F16.gguf"))
        .exists();
    assertThat(files(snapshot())).containsExactly("big/tiny.F16.gguf", "tiny.Q8_0.gguf");
  }

  @Test
  void patternsChooseGgufs() {
    has("tiny.Q4_K_M.gguf", "tiny.Q8_0.gguf", "big/tiny.F16.gguf", "Q8.bin");

    assertThat(with(hub -> hub.pull(HubFixture.REFERENCE, List.of("*Q8*"))))
        .isEqualTo(snapshot().resolve("tiny.Q8_0.gguf"));
    assertThat(with(hub -> hub.pull(HubFixture.REFERENCE, List.of("*Q4*", "*F16*"))))
        .isEqualTo(snapshot());
    assertThat(files(snapshot())).hasSize(3);
    assertRefused(text -> with(hub -> hub.pull(HubFixture.REFERENCE, List.of("*Q2*"))), "")
        .hasMessageContaining("no GGUF file of the repository matches *Q2*; it has big/");
    assertRefused(text -> with(hub -> hub.pull(HubFixture.REFERENCE, List.of("["))), "")
        .hasMessageContaining("\"[\" is no file pattern");
  }

  @Test
  void offlineTheCacheIsUsedAlone() {
    has("config.json", "model.safetensors");
    Path online = fixture.pull();
    int requests = fixture.server.requests().size();
    fixture.offline = true;

    assertThat(fixture.pull()).isEqualTo(online);
    assertThat(pull("hf:acme/tiny@" + COMMIT)).isEqualTo(online);

    assertThat(fixture.server.requests()).hasSize(requests);
  }

  @Test
  void offlineWhatIsNotInTheCacheIsMissed() {
    fixture.offline = true;

    assertRefused(this::pull, "hf:acme/tiny")
        .hasMessageStartingWith("hf:acme/tiny: not in the cache " + cache);
    assertRefused(this::pull, "hf:acme/tiny@" + COMMIT).hasMessageContaining("not in the cache");
    assertThat(fixture.server.requests()).isEmpty();
  }

  @Test
  void offlineACopyThatIsNotCompleteIsRefused() throws IOException {
    has("config.json", "model-1.safetensors", "model-2.safetensors");
    index("model-1.safetensors", "model-2.safetensors");
    Path snapshot = fixture.pull();
    fixture.offline = true;
    Files.delete(snapshot.resolve("model-2.safetensors").toRealPath());

    assertRefused(this::pull, "hf:acme/tiny")
        .hasMessageContaining("the copy in the cache (offline) has no model-2.safetensors");
  }

  @Test
  void aRefThatIsNoCommitIsNotFollowed() throws IOException {
    Files.createDirectories(cache.resolve("elsewhere"));
    Files.createDirectories(fixture.repo("snapshots"));
    Files.createDirectories(fixture.repo("refs"));
    Files.writeString(fixture.repo("refs").resolve("main"), "../../elsewhere");
    fixture.offline = true;

    assertRefused(this::pull, "hf:acme/tiny").hasMessageContaining("not in the cache");
  }

  @Test
  void aRevisionWithASlashHasARefOfItsOwn() throws IOException {
    has("tiny.gguf");

    pull("hf:acme/tiny@refs/pr/1");

    assertThat(fixture.server.requests().getFirst().path())
        .isEqualTo("/api/models/acme/tiny/revision/refs%2Fpr%2F1");
    assertThat(fixture.repo("refs").resolve("refs/pr/1")).hasContent(COMMIT);
    pull("hf:acme/tiny@" + COMMIT);
    assertThat(fixture.repo("refs").resolve(COMMIT)).doesNotExist();
  }

  private void has(String... paths) {
    for (String path : paths) {
      byte[] content = ("content of " + path).getBytes(StandardCharsets.UTF_8);
      if (path.endsWith(".json")) {
        fixture.server.small(path, content);
      } else {
        fixture.server.large(path, content);
      }
    }
  }

  private void index(String... shards) {
    StringBuilder map = new StringBuilder();
    for (int i = 0; i < shards.length; i++) {
      map.append(i == 0 ? "" : ", ").append("\"t%d\": \"%s\"".formatted(i, shards[i]));
    }
    fixture.server.small(
        "model.safetensors.index.json",
        "{\"weight_map\": {%s}}".formatted(map).getBytes(StandardCharsets.UTF_8));
  }

  private Path pull(String reference) {
    return with(hub -> hub.pull(HubReference.parse(reference.replaceFirst("^hf:", "")), List.of()));
  }

  private Path with(Function<Hub, Path> use) {
    try (Hub hub = fixture.hub()) {
      return use.apply(hub);
    }
  }

  private Path snapshot() {
    return fixture.repo("snapshots").resolve(COMMIT);
  }

  private static List<String> files(Path directory) {
    try (Stream<Path> paths = Files.walk(directory)) {
      return paths
          .filter(Files::isRegularFile)
          .map(path -> directory.relativize(path).toString())
          .sorted()
          .toList();
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private static AbstractThrowableAssert<?, ? extends Throwable> assertRefused(
      Function<String, Path> pull, String reference) {
    return assertThatThrownBy(() -> pull.apply(reference))
        .isInstanceOfSatisfying(
            InfiniLoraException.class,
            e -> assertThat(e.code()).isEqualTo(ErrorCode.DOWNLOAD_FAILED));
  }
}
