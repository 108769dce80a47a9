package io.infinilora.cli;

import io.infinilora.model.LoadListener;
import java.io.Console;
import java.io.PrintWriter;
import java.util.function.LongSupplier;

/**
 * Shows how a model is loaded: on a terminal by a bar, elsewhere by a line per second. Models that
 * load faster than that show nothing.
 */
final class LoadProgress implements LoadListener {
  private static final long LINE_NANOS = 1_000_000_000;
  private static final long REDRAW_NANOS = 100_000_000;
  private static final int BAR_WIDTH = 30;

  private final PrintWriter out;
  private final boolean terminal;
  private final LongSupplier nanos;
  private final long started;
  private long shown;
  private boolean drawn;

  LoadProgress(PrintWriter out, boolean terminal, LongSupplier nanos) {
    this.out = out;
    this.terminal = terminal;
    this.nanos = nanos;
    started = nanos.getAsLong();
    shown = started;
  }

  /** Shows on {@code out} as suits this process' terminal. */
  @SuppressWarnings("SystemConsoleNull") // JDK 25 without a terminal does return null.
  static LoadProgress of(PrintWriter out) {
    Console console = System.console();
    return new LoadProgress(out, console != null && console.isTerminal(), System::nanoTime);
  }

  @Override
  public synchronized void loaded(int done, int total) {
    long now = nanos.getAsLong();
    if (done == total) {
      if (drawn) {
        out.print("\r\u001b[K");
        out.flush();
      }
      return;
    }
    if (now - started < LINE_NANOS || now - shown < (terminal ? REDRAW_NANOS : LINE_NANOS)) {
      return;
    }
    shown = now;
    if (terminal) {
      drawn = true;
      int filled = done * BAR_WIDTH / total;
      out.print(
          "\r[%s%s] %d of %d layers\u001b[K"
              .formatted("=".repeat(filled), " ".repeat(BAR_WIDTH - filled), done, total));
    } else {
      out.println("loading: %d of %d layers".formatted(done, total));
    }
    out.flush();
  }
}
