package io.infinilora.node;

import static io.infinilora.node.Generations.await;
import static io.infinilora.node.Generations.greedy;
import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.weights.Upcycling;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Adapters of a model with experts, good ones among bad ones, in a whole node. */
class RefusedAdaptersTest {
  private static final Path FIXTURES = Path.of("src/test/resources/fixtures");
  private static final Path MODEL = FIXTURES.resolve("mixtral");
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String CONFIG = "adapter_config.json";
  private static final String WEIGHTS = "adapter_model.safetensors";
  private static final String EXPERT =
      "base_model.model.model.layers.1.block_sparse_moe.experts.7.w2.lora_A.weight";

  @TempDir Path folder;

  private final EventLoopWatch watch = new EventLoopWatch();

  /** What the refusal of each bad adapter has to say. */
  private final Map<String, List<String>> bad = new TreeMap<>();

  private Node node;

  @AfterEach
  void stop() {
    if (node != null) {
      await(node.close());
    }
    watch.assertSilent();
  }

  private void start(Path model, Path adapters, LoraMode mode) {
    InfiniLoraConfig config =
        new InfiniLoraConfig(
            Optional.of(model),
            Optional.of(adapters),
            mode,
            ServerConfig.DEFAULTS,
            EngineConfig.DEFAULTS);
    node = await(Node.start(watch.vertx(), config, EngineMetrics.NONE));
  }

  private Path copy(String name, String from) throws IOException {
    Path to = Files.createDirectory(folder.resolve(name));
    for (String file : List.of(CONFIG, WEIGHTS)) {
      Files.copy(FIXTURES.resolve(from).resolve(file), to.resolve(file));
    }
    return to;
  }

  private Path spoilt(String name, String from, String... message) throws IOException {
    bad.put(name, List.of(message));
    return copy(name, from);
  }

  /** Replaces bytes of a file by as many others. */
  private static void replace(Path file, String what, String with) throws IOException {
    String bytes = Files.readString(file, StandardCharsets.ISO_8859_1);
    assertThat(bytes).contains(what);
    assertThat(with).hasSameSizeAs(what);
    Files.writeString(file, bytes.replace(what, with), StandardCharsets.ISO_8859_1);
  }

  /** Removes the tensor whose bytes are the last. */
  private static void removeLast(Path weights, String tensor) throws IOException {
    byte[] file = Files.readAllBytes(weights);
    ObjectNode header = header(file);
    JsonNode bytes = header.remove(tensor).required("data_offsets");
    assertThat(8 + headerLength(file) + bytes.get(1).asInt()).isEqualTo(file.length);
    byte[] rest = JSON.writeValueAsBytes(header);
    Arrays.fill(file, 8, 8 + headerLength(file), (byte) ' ');
    System.arraycopy(rest, 0, file, 8, rest.length);
    Files.write(weights, Arrays.copyOf(file, 8 + headerLength(file) + bytes.get(0).asInt()));
  }

  /** Makes the first number of a bf16 tensor a NaN. */
  private static void notANumber(Path weights, String tensor) throws IOException {
    byte[] file = Files.readAllBytes(weights);
    int offset = header(file).required(tensor).required("data_offsets").get(0).asInt();
    ByteBuffer.wrap(file)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putShort(8 + headerLength(file) + offset, (short) 0x7fc0);
    Files.write(weights, file);
  }

  private static ObjectNode header(byte[] file) throws IOException {
    return (ObjectNode) JSON.readTree(file, 8, headerLength(file));
  }

  private static int headerLength(byte[] file) {
    return (int) ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).getLong(0);
  }

  private void fillWithBadAdapters() throws IOException {
    Path path = spoilt("expert-out-of-range", "mixtral/adapters/a1", "experts.9.w1", "8 experts");
    replace(path.resolve(WEIGHTS), "experts.7.w1", "experts.9.w1");
    path = spoilt("other-layer-count", "mixtral/adapters/a1", "layers.6", "2 layers");
    replace(path.resolve(WEIGHTS), "layers.1.", "layers.6.");
    path = spoilt("extra-key", "mixtral/adapters/a1", "experts.7.w5", "matches no module");
    replace(path.resolve(WEIGHTS), "experts.7.w2", "experts.7.w5");
    path = spoilt("missing-partner", "mixtral/adapters/a1", "v_proj.lora_A.weight has no partner");
    removeLast(
        path.resolve(WEIGHTS), "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight");
    path = spoilt("not-a-number", "mixtral/adapters/a1", EXPERT, "not finite");
    notANumber(path.resolve(WEIGHTS), EXPERT);
    path = spoilt("rank-too-high", "mixtral/adapters/a1", CONFIG, "rank", "513");
    Files.writeString(
        path.resolve(CONFIG),
        Files.readString(path.resolve(CONFIG)).replaceFirst("\"r\": 8", "\"r\": 513"));
    path = spoilt("rank-of-another", "mixtral/adapters/a1", "experts.3.w3", "[8, 48]", "[4, 48]");
    Files.writeString(
        path.resolve(CONFIG),
        Files.readString(path.resolve(CONFIG))
            .replace("\"rank_pattern\": {}", "\"rank_pattern\": {\"experts.3.w3\": 4}"));
    path = spoilt("wrong-shape", "mixtral/adapters/a1", EXPERT, "[40, 8]", "[8, 40]");
    String shape = EXPERT + "\":{\"dtype\":\"BF16\",\"shape\":";
    replace(path.resolve(WEIGHTS), shape + "[8,40]", shape + "[40,8]");
    spoilt("wrong-architecture", "gpt_oss/adapters/a1", "mlp.experts", "has shape");
    path = spoilt("cut-short", "mixtral/adapters/a1", WEIGHTS);
    byte[] whole = Files.readAllBytes(path.resolve(WEIGHTS));
    Files.write(path.resolve(WEIGHTS), Arrays.copyOf(whole, whole.length - 1));
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void goodAdaptersAreServedBesideBadOnes(LoraMode mode) throws IOException {
    fillWithBadAdapters();
    copy("a0", "mixtral/adapters/a0");
    copy("a1", "mixtral/adapters/a1");
    copy("z2", "mixtral/adapters/a2");

    start(MODEL, folder, mode);

    assertThat(node.engine().adapters())
        .extracting(AdapterId::name)
        .containsExactly("a0", "a1", "z2");
    List<InfiniLoraException> failures = node.adapterReport().failures();
    assertThat(failures).hasSize(bad.size()).allMatch(f -> f.code() == ErrorCode.BAD_ADAPTER);
    int i = 0;
    for (Map.Entry<String, List<String>> entry : bad.entrySet()) {
      assertThat(failures.get(i++)).hasMessageContainingAll(message(entry));
    }
    JsonNode batch = JSON.readTree(MODEL.resolve("mixed_batch.json").toFile());
    for (JsonNode request : batch.required("requests")) {
      Optional<String> adapter =
          Optional.ofNullable(request.required("adapter").textValue())
              .map(name -> name.replace("a2", "z2"));
      int[] prompt = ints(request.required("prompt_token_ids"));
      List<Integer> tokens = greedy(node.engine(), prompt, adapter, 16).join();
      assertThat(tokens.stream().mapToInt(Integer::intValue).toArray())
          .as(request.required("id").asText())
          .isEqualTo(ints(request.required("expected_token_ids")));
    }
  }

  /** Its name, and what it has to say. */
  private static CharSequence[] message(Map.Entry<String, List<String>> entry) {
    return Stream.concat(Stream.of(entry.getKey()), entry.getValue().stream())
        .toArray(CharSequence[]::new);
  }

  private static int[] ints(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false).mapToInt(JsonNode::asInt).toArray();
  }

  @Test
  void anAdapterOfTheDenseMlpDoesNotFitItsCopies() throws IOException {
    Path upcycled = folder.resolve("model");
    new Upcycling(4, 2, 1).write(FIXTURES.resolve("llama"), upcycled);

    start(upcycled, FIXTURES.resolve("llama/adapters"), LoraMode.DISAGGREGATED);

    assertThat(node.engine().adapters()).extracting(AdapterId::name).containsExactly("a0", "a2");
    assertThat(node.adapterReport().failures())
        .singleElement()
        .satisfies(
            f ->
                assertThat(f)
                    .hasMessageContainingAll(
                        "adapters/a1",
                        "layers.0.mlp.down_proj.lora_A.weight",
                        "matches no module of a mixtral model"));
    assertThat(greedy(node.engine(), new int[] {5, 6, 7}, Optional.of("a0"), 4).join()).hasSize(4);
  }
}
