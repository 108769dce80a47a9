package io.infinilora.api.text;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Stop strings in pieces of text. */
class StopStringsTest {

  private static String all(StopStrings stops, String... pieces) {
    StringBuilder out = new StringBuilder();
    for (String piece : pieces) {
      out.append(stops.append(piece));
    }
    return out.append(stops.finish()).toString();
  }

  @Test
  void cutsBeforeAStopThatSpansPieces() {
    StopStrings stops = new StopStrings(List.of("</end>"));

    assertThat(stops.append("ab<")).isEqualTo("ab");
    assertThat(stops.append("/en")).isEmpty();
    assertThat(stops.stopped()).isFalse();
    assertThat(stops.append("d>more")).isEmpty();
    assertThat(stops.stopped()).isTrue();
    assertThat(stops.append("even more")).isEmpty();
    assertThat(stops.finish()).isEmpty();
  }

  @Test
  void holdsBackOnlyWhatCanStillBecomeAStop() {
    StopStrings stops = new StopStrings(List.of("abab!"));

    assertThat(stops.append("xabab")).isEqualTo("x");
    assertThat(stops.append("a")).isEqualTo("ab");
    assertThat(stops.append("c")).isEqualTo("abac");
    assertThat(stops.finish()).isEmpty();
  }

  @Test
  void releasesTheRestAtTheEnd() {
    StopStrings stops = new StopStrings(List.of("END"));

    assertThat(stops.append("the EN")).isEqualTo("the ");
    assertThat(stops.finish()).isEqualTo("EN");
    assertThat(stops.stopped()).isFalse();
  }

  @Test
  void theStopThatIsCompleteFirstWins() {
    assertThat(all(new StopStrings(List.of("bcd", "c")), "abcd")).isEqualTo("ab");
    assertThat(all(new StopStrings(List.of("c", "bc")), "abcd")).isEqualTo("a");
  }

  @Test
  void passesEverythingWithoutStops() {
    StopStrings stops = new StopStrings(List.of());

    assertThat(stops.append("abc")).isEqualTo("abc");
    assertThat(stops.finish()).isEmpty();
  }

  @Test
  void refusesEmptyStops() {
    assertThatThrownBy(() -> new StopStrings(List.of("")))
        .isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void doesNotDependOnWherePiecesEnd() {
    Random random = new Random(7);
    for (int round = 0; round < 2_000; round++) {
      String text = word(random, 20);
      List<String> strings = new ArrayList<>();
      for (int i = 0; i <= random.nextInt(3); i++) {
        strings.add(word(random, 1 + random.nextInt(4)));
      }
      StopStrings stops = new StopStrings(strings);
      StringBuilder out = new StringBuilder();
      for (int from = 0; from < text.length(); ) {
        int to = Math.min(text.length(), from + 1 + random.nextInt(5));
        out.append(stops.append(text.substring(from, to)));
        from = to;
      }
      out.append(stops.finish());

      assertThat(out).as("%s cut by %s", text, strings).hasToString(expected(text, strings));
    }
  }

  private static String word(Random random, int length) {
    StringBuilder word = new StringBuilder();
    for (int i = 0; i < length; i++) {
      word.append((char) ('a' + random.nextInt(2)));
    }
    return word.toString();
  }

  /** By definition: the shortest prefix that ends in a stop, without the longest such stop. */
  private static String expected(String text, List<String> stops) {
    for (int end = 1; end <= text.length(); end++) {
      String prefix = text.substring(0, end);
      int longest = 0;
      for (String stop : stops) {
        longest = prefix.endsWith(stop) ? Math.max(longest, stop.length()) : longest;
      }
      if (longest > 0) {
        return text.substring(0, end - longest);
      }
    }
    return text;
  }
}
