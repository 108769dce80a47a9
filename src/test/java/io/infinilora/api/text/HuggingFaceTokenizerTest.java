package io.infinilora.api.text;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TextAssets;
import io.infinilora.core.TextAssets.BpeVocabulary;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A small vocabulary of a GGUF file, and tokenizer.json files. */
class HuggingFaceTokenizerTest {
  private static final int BOS = 256;
  private static final int USER = 257;
  private static final int FIRST_MERGED = 258;

  /** All bytes, two added tokens, and merged words. */
  private static BpeVocabulary vocabulary(String pre, String... merges) {
    List<String> tokens = new ArrayList<>();
    List<Integer> types = new ArrayList<>();
    for (int b = 0; b < 256; b++) {
      tokens.add(String.valueOf(ByteAlphabet.charOf(b)));
      types.add(1);
    }
    tokens.addAll(List.of("<|start|>", "[user]"));
    types.addAll(List.of(3, 4));
    for (String merge : merges) {
      tokens.add(merge.replace(" ", ""));
      types.add(1);
    }
    return new BpeVocabulary(tokens, types, List.of(merges), pre);
  }

  private static TextAssets assets(BpeVocabulary vocabulary, boolean addBos) {
    return new TextAssets(
        Optional.empty(), Optional.of(vocabulary), Optional.empty(), "<|start|>", "", addBos);
  }

  private static Tokenizer tokenizer(BpeVocabulary vocabulary) {
    return HuggingFaceTokenizer.of(assets(vocabulary, false)).orElseThrow();
  }

  @Test
  void mergesByPriorityAndWritesSpacesIntoWords() {
    Tokenizer t = tokenizer(vocabulary("gpt-2", "h i", "Ġ hi", "i h"));

    assertThat(t.encode("hihi hi", false))
        .containsExactly(FIRST_MERGED, FIRST_MERGED, FIRST_MERGED + 1);
    assertThat(t.decode(t.encode("hihi hi", false))).isEqualTo("hihi hi");
    assertThat(t.bytes(FIRST_MERGED + 1)).isEqualTo(" hi".getBytes(StandardCharsets.US_ASCII));
  }

  @Test
  void findsAddedTokensInTheText() {
    Tokenizer t = tokenizer(vocabulary("gpt-2"));

    assertThat(t.encode("a<|start|>b[user]", false)).containsExactly('a', BOS, 'b', USER);
    assertThat(t.special(BOS)).isTrue();
    assertThat(t.special(USER)).isFalse();
    assertThat(t.decode(new int[] {'a', BOS, 'b', USER})).isEqualTo("ab[user]");
    assertThat(t.id("<|start|>")).hasValue(BOS);
    assertThat(t.id("nope")).isEmpty();
    assertThat(t.vocabSize()).isEqualTo(258);
  }

  @Test
  void addsTheBeginningOfSequenceTokenOnlyWhereAskedTo() {
    Tokenizer with = HuggingFaceTokenizer.of(assets(vocabulary("gpt-2"), true)).orElseThrow();

    assertThat(with.encode("a", true)).containsExactly(BOS, 'a');
    assertThat(with.encode("a", false)).containsExactly('a');
    assertThat(tokenizer(vocabulary("gpt-2")).encode("a", true)).containsExactly('a');
  }

  @ParameterizedTest
  @CsvSource({"gpt-2,1", "smollm,4", "llama-bpe,2", "qwen2,4", "default,2"})
  void splitsNumbersAsThePreTokenizerSays(String pre, int tokens) {
    // A number is one token where nothing splits it, since its digits can all be merged.
    Tokenizer t = tokenizer(vocabulary(pre, "1 2", "12 3", "123 1"));

    assertThat(t.encode("1231", false)).hasSize(tokens);
  }

  @Test
  void decodesAnyBytes() {
    Tokenizer t = tokenizer(vocabulary("smollm"));
    String text = "tab\tnew\nline é € 😀 \u0000 end";

    assertThat(t.decode(t.encode(text, false))).isEqualTo(text);
  }

  @Test
  void doesNotTruncateLongTexts() {
    Tokenizer t = tokenizer(vocabulary("gpt-2"));

    assertThat(t.encode("x".repeat(20_000), false)).hasSize(20_000);
  }

  @Test
  void namesAnUnknownPreTokenizerAndTheKnownOnes() {
    assertThatThrownBy(() -> tokenizer(vocabulary("tekken")))
        .isInstanceOfSatisfying(
            InfiniLoraException.class,
            e -> assertThat(e.code()).isEqualTo(ErrorCode.BAD_MODEL_FILE))
        .hasMessageContaining("'tekken'")
        .hasMessageContaining("smollm")
        .hasMessageContaining("qwen2");
  }

  @Test
  void refusesVocabulariesThatContradictThemselves() {
    assertThatThrownBy(() -> tokenizer(vocabulary("gpt-2", "a b", "a b")))
        .hasMessageContaining("'ab' is both token 258 and token 259");
    BpeVocabulary fine = vocabulary("gpt-2");
    assertThatThrownBy(
            () ->
                tokenizer(
                    new BpeVocabulary(
                        fine.tokens(), fine.types().subList(0, 9), fine.merges(), "gpt-2")))
        .hasMessageContaining("9 entries for 258 tokens");
  }

  @Test
  void readsATokenizerJsonFile(@TempDir Path dir) throws Exception {
    Path file = dir.resolve("tokenizer.json");
    BpeVocabulary vocabulary = vocabulary("qwen2", "h i");
    Files.writeString(file, TokenizerJson.of(vocabulary, assets(vocabulary, false)));

    Tokenizer t =
        HuggingFaceTokenizer.of(
                new TextAssets(
                    Optional.of(file), Optional.empty(), Optional.empty(), "", "", false))
            .orElseThrow();

    assertThat(t.encode("hi", false)).containsExactly(FIRST_MERGED);
  }

  @Test
  void readsVocabulariesThatWriteSpacesAsBlocks() {
    Tokenizer t =
        new HuggingFaceTokenizer(
            """
            {"version":"1.0","added_tokens":[{"id":0,"content":"<s>","single_word":false,
             "lstrip":false,"rstrip":false,"normalized":false,"special":true}],
             "normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"},
             "pre_tokenizer":null,"post_processor":null,
             "decoder":{"type":"Sequence","decoders":[
               {"type":"Replace","pattern":{"String":"▁"},"content":" "},
               {"type":"ByteFallback"},{"type":"Fuse"}]},
             "model":{"type":"BPE","byte_fallback":true,"unk_token":null,
               "vocab":{"<s>":0,"<0xC3>":1,"<0xA9>":2,"a":3,"▁":4,"▁a":5},"merges":["▁ a"]}}""",
            "test");

    assertThat(t.encode("a aé", false)).containsExactly(3, 5, 1, 2);
    assertThat(t.decode(new int[] {0, 3, 5, 1, 2})).isEqualTo("a aé");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{                                          | not JSON",
        "{}                                         | decoder",
        "{\"decoder\":{\"type\":\"WordPiece\"}}     | decoder [WordPiece] is not supported",
        "{\"decoder\":{\"type\":\"ByteLevel\"}}     | model.vocab is missing",
        "{\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"vocab\":{\"a\":0}}} | not a tokenizer",
      })
  void refusesWhatIsNotATokenizer(String json, String message) {
    assertThatThrownBy(() -> new HuggingFaceTokenizer(json, "file.json"))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageStartingWith("file.json: ")
        .hasMessageContaining(message);
  }

  @Test
  void isAbsentWithoutAssets() {
    assertThat(HuggingFaceTokenizer.of(TextAssets.none())).isEmpty();
  }
}
