package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.infinilora.api.text.ChatTemplate;
import io.infinilora.api.text.HuggingFaceTokenizer;
import io.infinilora.api.text.Tokenizer;
import io.infinilora.core.TextAssets;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Vocabulary and chat template of SmolLM2's GGUF file against the token ids and texts that
 * transformers makes from the same file (src/test/resources/smollm2/tokenization.json says with
 * which versions).
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class RealTokenizerTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  private Tokenizer tokenizer;
  private ChatTemplate template;

  @BeforeAll
  void open() {
    try (Checkpoint checkpoint = Checkpoints.open(DemoModel.path())) {
      TextAssets text = checkpoint.text();
      tokenizer = HuggingFaceTokenizer.of(text).orElseThrow();
      template =
          new ChatTemplate(text.chatTemplate().orElseThrow(), text.bosToken(), text.eosToken());
    }
  }

  static Stream<JsonNode> strings() throws IOException {
    return cases("/smollm2/tokenization.json", "strings");
  }

  static Stream<JsonNode> templates() throws IOException {
    return cases("/smollm2/tokenization.json", "templates");
  }

  static Stream<JsonNode> answers() throws IOException {
    return cases("/smollm2/greedy.json", "cases");
  }

  private static Stream<JsonNode> cases(String file, String field) throws IOException {
    try (InputStream in = RealTokenizerTest.class.getResourceAsStream(file)) {
      List<JsonNode> cases = new ArrayList<>();
      JSON.readTree(in).required(field).forEach(cases::add);
      assertThat(cases).isNotEmpty();
      return cases.stream();
    }
  }

  private static int[] ids(JsonNode c, String field) {
    return JSON.convertValue(c.required(field), int[].class);
  }

  @ParameterizedTest
  @MethodSource("strings")
  void encodesAsTheReferenceDoesAndBack(JsonNode c) {
    String text = c.required("text").asText();

    int[] ids = tokenizer.encode(text, false);

    assertThat(ids).containsExactly(ids(c, "ids"));
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    for (int id : ids) {
      bytes.writeBytes(tokenizer.bytes(id));
    }
    assertThat(bytes.toString(StandardCharsets.UTF_8)).isEqualTo(text);
  }

  @ParameterizedTest
  @MethodSource("templates")
  void rendersAndEncodesChatsAsTheReferenceDoes(JsonNode c) {
    List<Map<String, Object>> messages =
        JSON.convertValue(c.required("messages"), new TypeReference<>() {});

    String text =
        template.render(messages, c.required("addGenerationPrompt").asBoolean(), Map.of());

    assertThat(text).isEqualTo(c.required("text").asText());
    assertThat(tokenizer.encode(text, false)).containsExactly(ids(c, "ids"));
  }

  @ParameterizedTest
  @MethodSource("answers")
  void decodesAnswersAsTheReferenceDoes(JsonNode c) {
    assertThat(tokenizer.decode(ids(c, "generatedIds"))).isEqualTo(c.required("text").asText());
  }
}
