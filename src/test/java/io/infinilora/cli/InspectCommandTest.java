package io.infinilora.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.infinilora.weights.TinyGguf;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;

class InspectCommandTest {
  private static final Path FIXTURES = Path.of("src/test/resources/fixtures");

  private final StringWriter out = new StringWriter();
  private final StringWriter err = new StringWriter();

  private int inspect(Object... args) {
    CommandLine line = Main.commandLine();
    line.setOut(new PrintWriter(out, true));
    line.setErr(new PrintWriter(err, true));
    List<String> words = new ArrayList<>(List.of("inspect"));
    for (Object arg : args) {
      words.add(arg.toString());
    }
    return line.execute(words.toArray(String[]::new));
  }

  private JsonNode json(Object path, Object... more) throws IOException {
    Object[] args = Arrays.copyOf(new Object[] {"--json", path}, 2 + more.length);
    System.arraycopy(more, 0, args, 2, more.length);
    inspect(args);
    return new ObjectMapper().readTree(out.toString());
  }

  private static List<String> texts(JsonNode list) {
    return StreamSupport.stream(list.spliterator(), false).map(JsonNode::asText).toList();
  }

  private static Path adapter(String fixture, String name) {
    return FIXTURES.resolve(fixture).resolve("adapters").resolve(name);
  }

  @Test
  void describesASafetensorsModel() {
    assertThat(inspect(FIXTURES.resolve("qwen3"))).isZero();
    assertThat(out.toString())
        .containsSubsequence(
            "architecture   qwen3",
            "layers         2, hidden size 64",
            "attention      4 heads of 24, 2 for keys and values",
            "parameters     115104",
            "weights        224.8 KiB as stored: BF16 224.8 KiB",
            "KV cache       768 bytes per token",
            "tokenizer      none");
  }

  @Test
  void describesAGguf(@TempDir Path folder) throws IOException {
    JsonNode model = json(TinyGguf.write("llama", folder.resolve("tiny.gguf"))).path("model");
    assertThat(model.path("architecture").asText()).isEqualTo("llama");
    // 6 x 16 embedding and final norm; norms, q, k, v, o of 16 + 8 + 8 + 16 rows, 3 x 32 x 16 MLP.
    assertThat(model.path("bytesOutsideLayers").asLong()).isEqualTo(4 * (6 * 16 + 16));
    assertThat(model.path("bytesByLayer").path(0).asLong())
        .isEqualTo(4 * (2 * 16 + 48 * 16 + 3 * 32 * 16));
    assertThat(model.path("bytesByType").path("F32").asLong()).isEqualTo(4 * 2448);
    assertThat(model.path("tokenizer").asText()).isEqualTo("GGUF, smollm");
    assertThat(model.path("chatTemplate").asBoolean()).isTrue();
    assertThat(model.path("vocabulary").asInt()).isEqualTo(6);
  }

  @Test
  void describesAnAdapterWithoutItsModel() throws IOException {
    JsonNode adapter = json(adapter("gpt_oss", "a2")).path("adapter");
    assertThat(texts(adapter.path("targets")))
        .containsExactly("mlp.experts.gate_up_proj", "self_attn.q_proj", "self_attn.v_proj");
    assertThat(texts(adapter.path("layers"))).containsExactly("0", "1");
    assertThat(texts(adapter.path("ranks"))).containsExactly("8", "16");
    assertThat(adapter.path("experts").asInt()).isEqualTo(8);
    assertThat(adapter.path("rankStabilised").asBoolean()).isTrue();
    assertThat(adapter.path("digest").asText()).hasSize(64);
    assertThat(adapter.path("baseModel").asText()).isEqualTo("tiny-random/gpt_oss");
  }

  @Test
  void drawsTheExpertsOfAnAdapterTogether() {
    assertThat(inspect(adapter("mixtral", "a1"))).isZero();
    assertThat(out.toString())
        .contains("block_sparse_moe.experts.*.w1, block_sparse_moe.experts.*.w2")
        .contains("layers      0-1")
        .contains("experts     8")
        .contains("pairs       56");
  }

  @Test
  void saysWhetherAnAdapterFits() {
    assertThat(inspect(adapter("llama", "a1"), "--base", FIXTURES.resolve("llama"))).isZero();
    assertThat(out.toString()).contains("fits        yes, 14 projections");
  }

  @Test
  void saysWhyAnAdapterDoesNotFit() throws IOException {
    Path base = FIXTURES.resolve("qwen3");
    assertThat(inspect(adapter("llama", "a1"), "--base", base)).isEqualTo(1);
    assertThat(out.toString())
        .contains("fits        no: ", "mlp.down_proj.lora_A.weight has shape [8, 128]", "[8, 96]");
    out.getBuffer().setLength(0);
    JsonNode fit = json(adapter("llama", "a1"), "--base", base).path("fit");
    assertThat(fit.path("fits").asBoolean()).isFalse();
    assertThat(fit.path("reason").asText()).contains("[8, 128]");
  }

  @Test
  void reportsBrokenFilesAsLoadingDoes(@TempDir Path folder) throws IOException {
    Files.writeString(folder.resolve("adapter_config.json"), "{\"peft_type\": \"IA3\"}");
    assertThat(inspect(folder)).isEqualTo(1);
    assertThat(err.toString()).contains("error: ", "adapter_config.json: peft_type is \"IA3\"");
    Path gguf = Files.writeString(folder.resolve("x.gguf"), "GGUF");
    assertThat(inspect(gguf)).isEqualTo(1);
    assertThat(err.toString()).contains("x.gguf: ");
    assertThat(inspect(FIXTURES.resolve("llama"), "--base", FIXTURES.resolve("llama")))
        .isEqualTo(1);
    assertThat(err.toString()).contains("--base is for adapters");
    assertThat(out.toString()).isEmpty();
  }
}
