package io.infinilora.cli;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.HubReference;
import java.io.PrintWriter;
import java.io.StringWriter;
import org.junit.jupiter.api.Test;

class PullProgressTest {
  private static final HubReference REFERENCE = HubReference.parse("acme/tiny");
  private static final String COMMIT = "0123456789abcdef0123456789abcdef01234567";

  private final StringWriter text = new StringWriter();
  private long nanos;

  @Test
  void elsewhereThanOnATerminalATenthIsALineIfItTakesASecond() {
    PullProgress progress = new PullProgress(new PrintWriter(text), false, () -> nanos);
    progress.planned(REFERENCE, COMMIT, 2, 200_000_000);
    for (int i = 0; i < 7; i++) {
      nanos += i < 6 ? 1_000_000_000 : 0;
      progress.received(10_000_000);
    }
    progress.received(-30_000_000);
    nanos += 1_000_000_000;
    progress.received(159_990_000);
    progress.received(10_000);
    progress.completed("config.json", 1_234);
    progress.completed("model.safetensors", 200_000_000);

    assertThat(text.toString().lines())
        .containsExactly(
            "hf:acme/tiny: commit 0123456789ab, 2 files, 200.0 MB to download",
            "10% of 200.0 MB",
            "20% of 200.0 MB",
            "30% of 200.0 MB",
            "90% of 200.0 MB",
            "config.json: 1.2 kB, checksum right",
            "model.safetensors: 200.0 MB, checksum right");
  }

  @Test
  void onATerminalABarIsDrawnNowAndThen() {
    PullProgress progress = new PullProgress(new PrintWriter(text), true, () -> nanos);
    progress.planned(REFERENCE, COMMIT, 1, 200_000_000);
    progress.received(10_000_000);
    nanos += 1_000_000_000;
    progress.received(90_000_000);
    progress.received(10_000_000);
    progress.note("trying again");

    assertThat(text.toString())
        .isEqualTo(
            "\r\u001b[Khf:acme/tiny: commit 0123456789ab, 1 file, 200.0 MB to download\n"
                + "\r[===============               ]  50% of 200.0 MB, 100.0 MB/s\u001b[K"
                + "\r\u001b[Ktrying again\n");
  }

  @Test
  void nothingToDownloadIsSaid() {
    PullProgress progress = new PullProgress(new PrintWriter(text), false, () -> nanos);
    progress.planned(REFERENCE, COMMIT, 3, 0);
    progress.received(0);

    assertThat(text.toString().lines())
        .containsExactly("hf:acme/tiny: commit 0123456789ab, 3 files, all in the cache");
  }
}
