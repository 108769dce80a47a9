package io.infinilora.config;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.WeightSource;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.assertj.core.api.AbstractThrowableAssert;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ConfigLoaderTest {
  private static final Path EXAMPLE = Path.of("conf", "infinilora.yaml");

  @TempDir private Path directory;

  @Test
  void nothingSetGivesTheDefaults() {
    assertThat(ConfigLoader.load(Map.of(), Map.of("HOME", "/x"), Optional.empty()))
        .isEqualTo(InfiniLoraConfig.DEFAULTS);
  }

  @Test
  void theExampleFileNamesEveryKeyInOrderWithItsDefault() {
    assertThat(YamlSettings.read(EXAMPLE).keySet()).containsExactlyElementsOf(ConfigLoader.keys());
    assertThat(ConfigLoader.load(Map.of(), Map.of(), Optional.of(EXAMPLE)))
        .isEqualTo(InfiniLoraConfig.DEFAULTS);
  }

  @Test
  void everyKeyOfTheFileIsMapped() throws IOException {
    Path file =
        write(
            """
            model: m.gguf
            adapters: some/adapters
            adapter:
              legal: some/legal
              support.eu: hf:acme/support@v1
            loraMode: coupled
            server:
              host: 0.0.0.0
              port: 1
              maxBody: 2KiB
              warmUp: 2s
              drainTimeout: 3ms
            engine:
              threads: 4
              loraThreads: 5
              contextLength: 6
              kvMemory: 7GiB
              maxRunning: 8
              maxWaiting: 9
              maxBatchedTokens: 10
              prefillChunk: 11
              prefixCache: false
              policy: sjf
              stepDeadline: 12m
            lora:
              deviceMemory: 13MiB
              hostMemory: 14MiB
              eviction: greedy-dual
              shards: 2x3
              adapterWait: 15s
              retryFor: 16m
              roots: [some/root, /another]
              allowHub: true
              watch: 16s
            hub:
              endpoint: http://mirror:8000/hf/
              cache: some/cache
              offline: true
              token: hf_x
            device:
              kind: auto
              index: 17
              memory: 18GiB
            """);
    assertThat(ConfigLoader.load(Map.of(), Map.of(), Optional.of(file)))
        .isEqualTo(
            new InfiniLoraConfig(
                    Optional.of(new WeightSource.Local(Path.of("m.gguf"))),
                    Optional.of(Path.of("some/adapters")),
                    Map.of(
                        "legal", new WeightSource.Local(Path.of("some/legal")),
                        "support.eu", new HubReference("acme/support", "v1", Optional.empty())),
                    LoraMode.COUPLED,
                    new ServerConfig(
                        "0.0.0.0",
                        1,
                        new ByteSize(2048),
                        Duration.ofSeconds(2),
                        Duration.ofMillis(3)),
                    new EngineConfig(
                        Optional.of(4),
                        Optional.of(5),
                        Optional.of(6),
                        new ByteSize(7L << 30),
                        8,
                        9,
                        10,
                        11,
                        false,
                        Policy.SJF,
                        Duration.ofMinutes(12)),
                    new LoraConfig(
                        ByteSize.mebibytes(13),
                        ByteSize.mebibytes(14),
                        Eviction.GREEDY_DUAL,
                        new LoraGrid(2, 3),
                        Duration.ofSeconds(15),
                        Duration.ofMinutes(16),
                        Optional.of(List.of(Path.of("some/root"), Path.of("/another"))),
                        true,
                        Optional.of(Duration.ofSeconds(16))),
                    new HubConfig(
                        URI.create("http://mirror:8000/hf"),
                        Optional.of(Path.of("some/cache")),
                        true,
                        Optional.of(new Secret("hf_x"))))
                .withDevice(
                    new DeviceConfig(DeviceKind.AUTO, 17, Optional.of(new ByteSize(18L << 30)))));
  }

  @Test
  void aListIsOneTextInTheEnvironment() throws IOException {
    Map<String, String> environment = Map.of("INFINILORA_LORA_ROOTS", "a, /b");
    assertThat(ConfigLoader.load(Map.of(), environment, Optional.empty()).lora().roots())
        .contains(List.of(Path.of("a"), Path.of("/b")));
    Path none = write("lora:\n  roots: []\n");
    assertThat(ConfigLoader.load(Map.of(), Map.of(), Optional.of(none)).lora().roots())
        .contains(List.of());
    Path nested = write("lora:\n  roots: [[a]]\n");
    assertRefused(nested)
        .hasMessage(nested + ":2: an item of lora.roots must be a single value without commas");
  }

  @ParameterizedTest
  @CsvSource({"fcfs,FCFS", "sjf,SJF", "adapter-fair,ADAPTER_FAIR"})
  void everyPolicyHasItsName(String name, Policy policy) {
    assertThat(
            ConfigLoader.load(Map.of("engine.policy", name), Map.of(), Optional.empty())
                .engine()
                .policy())
        .isEqualTo(policy);
  }

  @Test
  void flagsPrecedeTheEnvironmentThatPrecedesTheFile() throws IOException {
    Path file = write("server: {host: file, port: 1}\nengine: {maxWaiting: 1}\n");
    InfiniLoraConfig config =
        ConfigLoader.load(
            Map.of("server.port", "3"),
            Map.of("INFINILORA_SERVER_PORT", "2", "INFINILORA_ENGINE_MAX_WAITING", "2"),
            Optional.of(file));
    assertThat(config.server().host()).isEqualTo("file");
    assertThat(config.engine().maxWaiting()).isEqualTo(2);
    assertThat(config.server().port()).isEqualTo(3);
  }

  @Test
  void namedAdaptersAreCollectedByName() throws IOException {
    Path file = write("adapter: {a: file, b: file, c: file, d: file}\n");
    InfiniLoraConfig config =
        ConfigLoader.load(
            Map.of("adapter.c", "flag", "adapter", "e=hf:acme/e@v"),
            Map.of("INFINILORA_ADAPTER", "b=variable, c=variable,d=variable"),
            Optional.of(file));
    assertThat(config.adapter())
        .isEqualTo(
            Map.of(
                "a", new WeightSource.Local(Path.of("file")),
                "b", new WeightSource.Local(Path.of("variable")),
                "c", new WeightSource.Local(Path.of("flag")),
                "d", new WeightSource.Local(Path.of("variable")),
                "e", WeightSource.parse("hf:acme/e@v")));
  }

  @Test
  void aNamedAdapterOfAWrongFormIsNamedWithItsPlace() throws IOException {
    Path file = write("adapter:\n  a: hf:x/y/z\n");
    assertRefused(file)
        .hasMessage(
            file
                + ":2: adapter.a must be a path or hf:REPO[@REVISION][:FILE.gguf], not \"hf:x/y/z\"");
    assertThat(
            ConfigLoader.load(Map.of(), Map.of(), Optional.of(write("adapter: {a: null}\n")))
                .adapter())
        .isEmpty();
  }

  @Test
  void variablesOfHuggingFacesToolsRankBetweenTheFileAndInfiniLoras() throws IOException {
    Path file = write("hub: {endpoint: 'http://file', cache: file, token: file}\n");
    Map<String, String> environment =
        Map.of(
            "HF_ENDPOINT", "http://hf/",
            "HF_HOME", "home",
            "HF_HUB_OFFLINE", "yes",
            "HF_TOKEN", " hf_a\n",
            "HUGGING_FACE_HUB_TOKEN", "hf_b",
            "INFINILORA_HUB_ENDPOINT", "http://own");
    assertThat(ConfigLoader.load(Map.of(), environment, Optional.of(file)).hub())
        .isEqualTo(
            new HubConfig(
                URI.create("http://own"),
                Optional.of(Path.of("home/hub")),
                true,
                Optional.of(new Secret("hf_a"))));
    assertThat(hub(Map.of("HUGGING_FACE_HUB_TOKEN", "hf_b")).token()).contains(new Secret("hf_b"));
    assertThat(hub(Map.of("HF_HOME", "home", "HF_HUB_CACHE", "cache")).cache())
        .contains(Path.of("cache"));
    assertThat(hub(Map.of("XDG_CACHE_HOME", "xdg")).cache())
        .contains(Path.of("xdg/huggingface/hub"));
    assertThat(hub(Map.of("HF_HUB_OFFLINE", "0")).offline()).isFalse();
  }

  @Test
  void theStoredTokenIsTheLastResort() throws IOException {
    Files.writeString(directory.resolve("token"), "hf_stored\n");
    Map<String, String> environment = Map.of("HF_HOME", directory.toString());
    Path file = write("hub: {token: null}\n");
    assertThat(ConfigLoader.load(Map.of(), environment, Optional.of(file)).hub().token())
        .contains(new Secret("hf_stored"));
    assertThat(
            ConfigLoader.load(Map.of("hub.token", "hf_flag"), environment, Optional.of(file))
                .hub()
                .token())
        .contains(new Secret("hf_flag"));
    assertThat(hub(Map.of("HF_TOKEN_PATH", directory.resolve("token").toString())).token())
        .contains(new Secret("hf_stored"));
  }

  @Test
  void aTokenIsNeverPrinted() {
    assertThat(
            ConfigLoader.load(Map.of("hub.token", "hf_secret"), Map.of(), Optional.empty())
                .toString())
        .contains("token=Optional[(secret)]")
        .doesNotContain("hf_secret");
  }

  private static HubConfig hub(Map<String, String> environment) {
    return ConfigLoader.load(Map.of(), environment, Optional.empty()).hub();
  }

  @Test
  void variablesAreDerivedFromKeysAndUnique() {
    assertThat(ConfigLoader.variable("server.port")).isEqualTo("INFINILORA_SERVER_PORT");
    assertThat(ConfigLoader.variable("engine.maxBatchedTokens"))
        .isEqualTo("INFINILORA_ENGINE_MAX_BATCHED_TOKENS");
    assertThat(ConfigLoader.keys().stream().map(ConfigLoader::variable)).doesNotHaveDuplicates();
  }

  @Test
  void anUnknownKeyOfAFileIsNamedWithItsLineAndASuggestion() throws IOException {
    Path file = write("server:\n  port: 1\n\n  prot: 2\n");
    assertRefused(file).hasMessage(file + ":4: unknown key server.prot; did you mean server.port?");
  }

  @Test
  void anUnknownKeyLikeNoOtherGetsNoSuggestion() throws IOException {
    Path file = write("frobnicate: 1\n");
    assertRefused(file).hasMessage(file + ":1: unknown key frobnicate");
  }

  @Test
  void unknownVariablesAndFlagsAreRefused() {
    assertThatThrownBy(
            () ->
                ConfigLoader.load(
                    Map.of(), Map.of("INFINILORA_ENGINE_MAXRUNNING", "1"), Optional.empty()))
        .hasMessage(
            "unknown environment variable INFINILORA_ENGINE_MAXRUNNING; did you mean INFINILORA_ENGINE_MAX_RUNNING?");
    assertThatThrownBy(() -> ConfigLoader.load(Map.of("Model", "x"), Map.of(), Optional.empty()))
        .hasMessage("command line: unknown key Model; did you mean model?");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "server.port|http|server.port must be a whole number, not \"http\"",
        "server.port|99999999999|server.port must be a whole number, not \"99999999999\"",
        "server.maxBody|4MB|server.maxBody must be a size such as 512MiB, not \"4MB\"",
        "engine.kvMemory|99999999999TiB|engine.kvMemory must be a size such as 512MiB, not \"99999999999TiB\"",
        "engine.stepDeadline|30|engine.stepDeadline must be a duration such as 30s, not \"30\"",
        "engine.prefixCache|yes|engine.prefixCache must be true or false, not \"yes\"",
        "lora.roots|a,|lora.roots must be a list, in one text joined by commas, each a path, not \"a,\"",
        "lora.watch|true|lora.watch must be a duration such as 30s, not \"true\"",
        "lora.shards|2|lora.shards must be expert ranges x layer ranges such as 2x4, not \"2\"",
        "lora.shards|0x1|lora.shards must be expert ranges x layer ranges such as 2x4, not \"0x1\"",
        "loraMode|both|loraMode must be one of none, coupled, disaggregated, not \"both\"",
        "model|''|model must be a path or hf:REPO[@REVISION][:FILE.gguf], not \"\"",
        "model|hf:../x|model must be a path or hf:REPO[@REVISION][:FILE.gguf], not \"hf:../x\"",
        "adapter|a=b,c|adapter must be NAME=VALUE, several joined by commas, not \"a=b,c\"",
        "hub.endpoint|http://a b|hub.endpoint must be an address such as https://example.org, not \"http://a b\"",
        "engine.policy|fair|engine.policy must be one of fcfs, sjf, adapter-fair, not \"fair\"",
      })
  void aWrongTypeNamesPlaceKeyValueAndWhatIsExpected(String key, String value, String message) {
    assertThatThrownBy(() -> ConfigLoader.load(Map.of(key, value), Map.of(), Optional.empty()))
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.BAD_CONFIG))
        .hasMessage("command line: " + message);
    String variable = ConfigLoader.variable(key);
    assertThatThrownBy(() -> ConfigLoader.load(Map.of(), Map.of(variable, value), Optional.empty()))
        .hasMessage("environment variable " + variable + ": " + message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "server.port|65536|server.port must be between 0 and 65535, not 65536",
        "server.host|' '|server.host must not be empty",
        "server.maxBody|0B|server.maxBody must be greater than 0",
        "engine.threads|0|engine.threads must be at least 1, not 0",
        "engine.loraThreads|-1|engine.loraThreads must be at least 1, not -1",
        "engine.contextLength|1|engine.contextLength must be at least 2, not 1",
        "engine.kvMemory|0B|engine.kvMemory must be greater than 0",
        "device.index|-1|device.index must be at least 0, not -1",
        "device.memory|0B|device.memory must be greater than 0",
        "engine.maxRunning|0|engine.maxRunning must be at least 1, not 0",
        "engine.maxBatchedTokens|65536|engine.maxBatchedTokens must be at most 65535, not 65536",
        "engine.maxWaiting|0|engine.maxWaiting must be at least 1, not 0",
        "engine.prefillChunk|0|engine.prefillChunk must be at least 1, not 0",
        "adapter|=b|adapter: \"\" is no name for an adapter; it must not be empty nor hold spaces, commas or \"=\"",
        "hub.endpoint|ftp://a|hub.endpoint must be an http or https address with a host and without user, query or fragment",
        "hub.endpoint|http://u:p@a|hub.endpoint must be an http or https address with a host and without user, query or fragment",
        "hub.token|'a b'|hub.token must be visible ASCII characters without spaces",
        "lora.watch|0s|lora.watch must be greater than 0",
        "engine.stepDeadline|0s|engine.stepDeadline must be greater than 0",
      })
  void anImpossibleValueIsRefused(String key, String value, String message) {
    assertThatThrownBy(() -> ConfigLoader.load(Map.of(key, value), Map.of(), Optional.empty()))
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.BAD_CONFIG))
        .hasMessage(message);
  }

  @Test
  void theTokenBudgetMustHoldEveryRunningSequence() {
    assertThatThrownBy(
            () ->
                ConfigLoader.load(
                    Map.of("engine.maxBatchedTokens", "31"), Map.of(), Optional.empty()))
        .hasMessageStartingWith("engine.maxBatchedTokens must be at least engine.maxRunning (32)");
  }

  @Test
  void nullUnsetsWhatMayBeUnsetOnly() throws IOException {
    assertThat(
            ConfigLoader.load(
                    Map.of(), Map.of(), Optional.of(write("engine: {threads: null}\nmodel:\n")))
                .engine()
                .threads())
        .isEmpty();
    Path file = write("server:\n  port: null\n");
    assertRefused(file).hasMessage(file + ":2: server.port must be a whole number, not null");
  }

  @Test
  void anEmptyFileOrGroupSetsNothing() throws IOException {
    for (String text : new String[] {"", "# nothing\n", "server:\n  # port: 1\n", "{}"}) {
      assertThat(ConfigLoader.load(Map.of(), Map.of(), Optional.of(write(text))))
          .as(text)
          .isEqualTo(InfiniLoraConfig.DEFAULTS);
    }
  }

  @Test
  void filesOfAnotherShapeAreRefused() throws IOException {
    assertRefused(write("- a\n")).hasMessageContaining(":1: settings must be written as");
    assertRefused(write("server: 5\n")).hasMessageContaining(":1: server is a group of settings");
    assertRefused(write("server:\n  port: [1]\n"))
        .hasMessageContaining(":2: server.port must be a single value");
    assertRefused(write("model: a\nmodel: b\n")).hasMessageContaining(":2: model is set already");
    assertRefused(write("model: 'a\n")).hasMessageContaining("is not valid YAML");
    assertRefused(directory.resolve("missing.yaml")).hasMessageContaining("cannot read");
  }

  private static AbstractThrowableAssert<?, ? extends Throwable> assertRefused(Path file) {
    return assertThatThrownBy(() -> ConfigLoader.load(Map.of(), Map.of(), Optional.of(file)))
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.BAD_CONFIG));
  }

  private Path write(String text) throws IOException {
    return Files.writeString(directory.resolve("settings.yaml"), text);
  }
}
