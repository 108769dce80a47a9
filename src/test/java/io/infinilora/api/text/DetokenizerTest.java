package io.infinilora.api.text;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.fake.ByteTokenizer;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Tokens in, text out, never half a character. */
class DetokenizerTest {
  private final Tokenizer bytes = new ByteTokenizer();

  private List<String> pieces(int... tokens) {
    Detokenizer detokenizer = new Detokenizer(bytes);
    List<String> pieces = new ArrayList<>();
    IntStream.of(tokens).forEach(t -> pieces.add(detokenizer.append(t)));
    pieces.add(detokenizer.finish());
    return pieces;
  }

  @Test
  void holdsBackIncompleteCharacters() {
    assertThat(pieces(bytes.encode("aé€😀", false)))
        .containsExactly("a", "", "é", "", "", "€", "", "", "", "😀", "");
  }

  @Test
  void replacesWhatStaysIncomplete() {
    assertThat(pieces('a', 0xF0, 0x9F)).containsExactly("a", "", "", "\uFFFD");
  }

  @Test
  void replacesWhatCannotBecomeACharacterAtOnce() {
    assertThat(pieces(0xE2, 'b', 0xFF, 'c')).containsExactly("", "\uFFFDb", "\uFFFD", "c", "");
  }

  @Test
  void skipsSpecialTokens() {
    assertThat(pieces('a', ByteTokenizer.SPECIAL, 'b')).containsExactly("a", "", "b", "");
  }

  @Test
  void agreesWithDecodingAllAtOnce() {
    String text = "Wörter, 言葉, λέξεις 👩‍🚀";

    assertThat(String.join("", pieces(bytes.encode(text, true)))).isEqualTo(text);
  }
}
