package io.infinilora.cli;

import io.infinilora.core.HubReference;
import io.infinilora.weights.hub.HubListener;
import java.io.Console;
import java.io.PrintWriter;
import java.util.function.LongSupplier;

/**
 * Shows downloads: on a terminal by a bar that is drawn again and again, elsewhere by a line per
 * tenth, if that takes long enough. Thread-safe.
 */
final class PullProgress implements HubListener {
  private static final long REDRAW_NANOS = 100_000_000;
  private static final long LINE_NANOS = 1_000_000_000;
  private static final int BAR_WIDTH = 30;
  private static final int STEP_PERCENT = 10;
  private static final int SHORT_COMMIT = 12;
  private static final long MEGABYTE = 1_000_000;

  private final PrintWriter out;
  private final boolean terminal;
  private final LongSupplier nanos;

  private long total;
  private long done;
  private long started;
  private long drawn;
  private int shownPercent;

  PullProgress(PrintWriter out, boolean terminal, LongSupplier nanos) {
    this.out = out;
    this.terminal = terminal;
    this.nanos = nanos;
  }

  /** Shows downloads on {@code out} as suits this process' terminal. */
  @SuppressWarnings("SystemConsoleNull") // JDK 25 without a terminal does return null.
  static PullProgress of(PrintWriter out) {
    Console console = System.console();
    return new PullProgress(out, console != null && console.isTerminal(), System::nanoTime);
  }

  @Override
  public synchronized void note(String message) {
    line(message);
  }

  @Override
  public synchronized void planned(HubReference reference, String commit, int files, long bytes) {
    total = bytes;
    done = 0;
    started = nanos.getAsLong();
    drawn = started;
    shownPercent = 0;
    line(
        "%s: commit %s, %d %s, %s"
            .formatted(
                reference,
                commit.substring(0, SHORT_COMMIT),
                files,
                files == 1 ? "file" : "files",
                bytes == 0 ? "all in the cache" : size(bytes) + " to download"));
  }

  @Override
  public synchronized void received(long bytes) {
    done += bytes;
    if (total == 0) {
      return;
    }
    int percent = Math.clamp(100 * done / total, 0, 100);
    long now = nanos.getAsLong();
    if (terminal && now - drawn >= REDRAW_NANOS) {
      drawn = now;
      draw(percent, now);
    } else if (!terminal && percent >= shownPercent + STEP_PERCENT && now - drawn >= LINE_NANOS) {
      drawn = now;
      shownPercent = percent - percent % STEP_PERCENT;
      line("%d%% of %s".formatted(shownPercent, size(total)));
    }
  }

  @Override
  public synchronized void completed(String file, long bytes) {
    line("%s: %s, checksum right".formatted(file, size(bytes)));
  }

  private void draw(int percent, long now) {
    int filled = percent * BAR_WIDTH / 100;
    out.print(
        "\r[%s%s] %3d%% of %s, %.1f MB/s\u001b[K"
            .formatted(
                "=".repeat(filled),
                " ".repeat(BAR_WIDTH - filled),
                percent,
                size(total),
                done * 1e3 / (now - started)));
    out.flush();
  }

  /** A line of its own, in place of the bar. */
  private void line(String text) {
    out.println(terminal ? "\r\u001b[K" + text : text);
    out.flush();
  }

  private static String size(long bytes) {
    return bytes < MEGABYTE
        ? "%.1f kB".formatted(bytes / 1e3)
        : "%.1f MB".formatted((double) bytes / MEGABYTE);
  }
}
