package io.infinilora.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class LoadProgressTest {
  private static final long MILLIS = 1_000_000;

  private final StringWriter text = new StringWriter();
  private final AtomicLong now = new AtomicLong();

  private LoadProgress progress(boolean terminal) {
    return new LoadProgress(new PrintWriter(text), terminal, now::get);
  }

  private static void load(LoadProgress progress, AtomicLong clock, long millisPerLayer) {
    for (int i = 1; i <= 8; i++) {
      clock.addAndGet(millisPerLayer * MILLIS);
      progress.loaded(i, 8);
    }
  }

  @Test
  void fastLoadsShowNothing() {
    load(progress(true), now, 100);
    load(progress(false), now, 100);
    assertThat(text.toString()).isEmpty();
  }

  @Test
  void slowLoadsShowALinePerSecond() {
    load(progress(false), now, 500);
    assertThat(text.toString().lines())
        .containsExactly(
            "loading: 2 of 8 layers", "loading: 4 of 8 layers", "loading: 6 of 8 layers");
  }

  @Test
  void aTerminalShowsABarAndClearsIt() {
    load(progress(true), now, 500);
    assertThat(text.toString())
        .contains("\r[===============               ] 4 of 8 layers")
        .doesNotContain("8 of 8")
        .endsWith("\r\u001b[K");
  }
}
