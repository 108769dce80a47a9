package io.infinilora.engine;

import io.infinilora.adapter.AdapterGroups;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.SampleRow;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.SamplingParams;
import java.time.Duration;
import java.util.Collections;
import java.util.List;

/**
 * Steps that nobody asked for, so that the first requests meet compiled kernels: decodes of few and
 * of several rows and a chunk of a prompt, for the base model and for the adapters. They pass the
 * scheduler by and write into blocks that it counts as free, whose content means nothing; so they
 * may only run before the first request. Event loop only.
 */
final class WarmUp {
  /** Sequences and rows of each; one kernel or another changes with the number of rows. */
  private static final int[][] SHAPES = {{1, 1}, {2, 1}, {8, 1}, {1, 32}};

  /**
   * Rounds in a row that were not faster than the best one, after which there is no more to gain.
   */
  private static final int SETTLED_ROUNDS = 5;

  private final SchedulerConfig config;
  private final int vocab;
  private int[] adapterSlots;
  private final long end;
  private int next;
  private long roundStart;
  private long fastestRound = Long.MAX_VALUE;
  private int roundsSince;

  /**
   * Steps within {@code config}.
   *
   * @param adapterSlots leased adapters to warm up with, too
   * @param budget time after which no further step is begun
   * @param now {@link System#nanoTime}
   */
  WarmUp(SchedulerConfig config, int vocab, int[] adapterSlots, Duration budget, long now) {
    this.config = config;
    this.vocab = vocab;
    this.adapterSlots = adapterSlots;
    this.end = now + budget.toNanos();
    this.roundStart = now;
  }

  /** Whether to stop, asked between steps. */
  boolean done(long now) {
    int steps = SHAPES.length * (adapterSlots.length == 0 ? 1 : 2);
    if (next == steps) {
      long round = now - roundStart;
      // Less than a twentieth is noise.
      roundsSince = round < fastestRound - fastestRound / 20 ? 0 : roundsSince + 1;
      fastestRound = Math.min(fastestRound, round);
      next = 0;
      roundStart = now;
    }
    return now - end >= 0 || roundsSince == SETTLED_ROUNDS;
  }

  /** Whether steps may use adapters. */
  boolean hasAdapters() {
    return adapterSlots.length > 0;
  }

  /** Leaves adapters out from now on. */
  void withoutAdapters() {
    adapterSlots = new int[0];
    next = Math.min(next, SHAPES.length);
  }

  /** The next step, announced. */
  StepTask next(LoraRuntime lora, long deadlineNanos) {
    int[] shape = SHAPES[next % SHAPES.length];
    boolean adapters = next >= SHAPES.length;
    next++;
    int sequences = Math.min(shape[0], Math.min(config.maxRunning(), config.kvBlocks()));
    int context =
        (int)
            Math.min(
                config.contextLength(), (long) config.kvBlocks() / sequences * config.blockSize());
    int count = Math.min(shape[1], Math.min(context, config.maxBatchedTokens()));
    // A decode looks back at a block; what stands there does not matter.
    int first = Math.min(context, Math.max(count, config.blockSize())) - count;
    int rows = sequences * count;
    int[] tokens = new int[rows];
    int[] positions = new int[rows];
    int[] slotOfRow = new int[rows];
    int[] rowStart = new int[sequences + 1];
    int[][] blockTables = new int[sequences][Math.ceilDiv(first + count, config.blockSize())];
    int[] logitRows = new int[sequences];
    int block = 0;
    for (int s = 0; s < sequences; s++) {
      for (int i = 0; i < blockTables[s].length; i++) {
        blockTables[s][i] = block++;
      }
      for (int i = 0; i < count; i++) {
        int row = s * count + i;
        tokens[row] = row % vocab;
        positions[row] = first + i;
        slotOfRow[row] =
            adapters ? adapterSlots[s % adapterSlots.length] : AdapterGroups.NO_ADAPTER;
      }
      rowStart[s + 1] = (s + 1) * count;
      logitRows[s] = rowStart[s + 1] - 1;
    }
    SampleRow sample = new SampleRow(SamplingParams.greedy(1), 0, new int[0], 0, 0);
    return new StepTask(
        new BatchLayout(tokens, positions, rowStart, blockTables, logitRows),
        Collections.nCopies(sequences, sample),
        List.of(),
        lora.announce(slotOfRow, deadlineNanos));
  }
}
