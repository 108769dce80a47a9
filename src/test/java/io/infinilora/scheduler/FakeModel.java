package io.infinilora.scheduler;

import java.util.Arrays;
import java.util.Optional;

/**
 * Runs plans on a pretended KV cache: the entry of a position is a digest of the adapter and of all
 * tokens up to it, computed from the entry before it. A block that is shared wrongly, overwritten
 * or never filled thus changes every later token of the sequence.
 */
final class FakeModel {
  private final long[] entries;
  private final int blockSize;
  private final int vocabulary;

  FakeModel(int blocks, int blockSize, int vocabulary) {
    this.entries = new long[blocks * blockSize];
    this.blockSize = blockSize;
    this.vocabulary = vocabulary;
    Arrays.fill(entries, -1);
  }

  /** Computes a plan's rows and samples. */
  int[] run(StepPlan plan) {
    int[] sampled = new int[plan.samples().size()];
    int sample = 0;
    for (StepPlan.Slice slice : plan.slices()) {
      long last = compute(slice);
      if (slice.sampled()) {
        sampled[sample++] = token(last);
      }
    }
    return sampled;
  }

  /** Leaves rubbish where a plan's rows belong, as a step that fails half-way may. */
  void spoil(StepPlan plan) {
    for (StepPlan.Slice slice : plan.slices()) {
      for (int i = 0; i < slice.count(); i++) {
        entries[place(slice, slice.first() + i)] = -2;
      }
    }
  }

  /** The tokens that a sequence gets when it runs alone. */
  int[] alone(Sequence sequence, int outputs) {
    long state = root(sequence.adapter());
    for (int token : sequence.request().prompt()) {
      state = extend(state, token);
    }
    int[] output = new int[outputs];
    for (int i = 0; i < outputs; i++) {
      output[i] = token(state);
      state = extend(state, output[i]);
    }
    return output;
  }

  private long compute(StepPlan.Slice slice) {
    long state =
        slice.first() == 0
            ? root(slice.sequence().adapter())
            : entries[place(slice, slice.first() - 1)];
    for (int i = 0; i < slice.count(); i++) {
      state = extend(state, slice.tokens()[i]);
      entries[place(slice, slice.first() + i)] = state;
    }
    return state;
  }

  private int place(StepPlan.Slice slice, int position) {
    return slice.blockTable()[position / blockSize] * blockSize + position % blockSize;
  }

  private int token(long state) {
    return (int) Math.floorMod(state >>> 17, (long) vocabulary);
  }

  private static long root(Optional<?> adapter) {
    return extend(7, adapter.hashCode());
  }

  private static long extend(long state, int token) {
    long mixed = (state ^ token) * 0x9E3779B97F4A7C15L;
    return (mixed ^ (mixed >>> 29)) * 0xBF58476D1CE4E5B9L;
  }
}
