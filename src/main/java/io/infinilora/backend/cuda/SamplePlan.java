package io.infinilora.backend.cuda;

import io.infinilora.backend.Draws;
import io.infinilora.backend.SampleRow;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * What the sampling kernels are told about the rows of a call, as {@code sampling.cu} lays it out:
 * parameters and adjustments of the rows that need more than the largest logit, then the numbers of
 * those that do not. Reused from call to call; not thread-safe.
 */
final class SamplePlan {
  /** Words of {@code SampleParams}. */
  static final int PARAMS_WORDS = 10;

  /** Words of {@code Adjustment}. */
  static final int ADJUSTMENT_WORDS = 2;

  /** {@link Adjustment#count} of a token that was not seen. */
  private static final int NOT_SEEN = -1;

  private final int vocab;

  /** By token: the place of its adjustment among those of the present row, plus 1. */
  private final int[] places;

  private long[] params = new long[PARAMS_WORDS];
  private long[] adjustments = new long[ADJUSTMENT_WORDS];
  private int[] greedy = new int[1];
  private int paramsCount;
  private int adjustmentCount;
  private int greedyCount;

  SamplePlan(int vocab) {
    this.vocab = vocab;
    places = new int[vocab];
  }

  int vocab() {
    return vocab;
  }

  /**
   * Plans a call.
   *
   * @throws InfiniLoraException INVALID_REQUEST if a bias is for a token that does not exist
   */
  void make(List<SampleRow> rows) {
    paramsCount = 0;
    adjustmentCount = 0;
    greedyCount = 0;
    for (int i = 0; i < rows.size(); i++) {
      if (isPlain(rows.get(i).params())) {
        greedy = withRoom(greedy, greedyCount + 1);
        greedy[greedyCount++] = i;
      } else {
        add(i, rows.get(i));
      }
    }
  }

  /** Whether the largest logit is all that is asked for. */
  private static boolean isPlain(SamplingParams params) {
    return params.isGreedy()
        && params.logprobs() < 0
        && params.logitBias().isEmpty()
        && !params.hasPenalties();
  }

  private void add(int number, SampleRow row) {
    SamplingParams p = row.params();
    int first = adjustmentCount;
    try {
      adjust(row, first);
    } finally {
      for (int i = first; i < adjustmentCount; i++) {
        places[token(i)] = 0;
      }
    }
    // Bounded so that it is finite in float32; far below, everything but the best is 0 anyway.
    double factor = p.isGreedy() ? 0 : Math.min(1 / p.temperature(), 1e30);
    boolean cuts = p.minP() > 0 && !p.isGreedy();
    int at = paramsCount * PARAMS_WORDS;
    params = withRoom(params, at + PARAMS_WORDS);
    params[at] = pair(number, p.topK());
    params[at + 1] = pair(p.logprobs(), first);
    params[at + 2] = pair(adjustmentCount, p.isGreedy() ? 1 : 0);
    params[at + 3] = pair(Float.floatToRawIntBits((float) factor), 0);
    params[at + 4] = bits(p.topP());
    params[at + 5] = bits(cuts ? Math.log(p.minP()) / factor : Double.NEGATIVE_INFINITY);
    params[at + 6] = bits(Draws.uniform(p.seed(), row.step()));
    params[at + 7] = bits(p.repetitionPenalty());
    params[at + 8] = bits(p.presencePenalty());
    params[at + 9] = bits(p.frequencyPenalty());
    paramsCount++;
  }

  private void adjust(SampleRow row, int first) {
    SamplingParams p = row.params();
    for (Map.Entry<Integer, Double> bias : p.logitBias().entrySet()) {
      int token = bias.getKey();
      if (token < 0 || token >= vocab) {
        throw new InfiniLoraException(
            ErrorCode.INVALID_REQUEST,
            "logit_bias names token %d, but there are %d".formatted(token, vocab));
      }
      int at = adjustment(token, first); // May move the array.
      adjustments[word(at) + 1] = bits(bias.getValue());
    }
    if (!p.hasPenalties()) {
      return;
    }
    for (int i = 0; i < row.historyLength(); i++) {
      int token = row.history()[i];
      if (token < 0 || token >= vocab) {
        throw new IllegalArgumentException(
            "token %d in the history, but there are %d".formatted(token, vocab));
      }
      int at = adjustment(token, first);
      int times = i < row.promptLength() ? 0 : 1;
      adjustments[word(at)] = pair(token, Math.max(0, count(at)) + times);
    }
  }

  /** The adjustment of a token in the present row; added if there is none. */
  private int adjustment(int token, int first) {
    if (places[token] == 0) {
      int at = adjustmentCount++;
      adjustments = withRoom(adjustments, word(adjustmentCount));
      adjustments[word(at)] = pair(token, NOT_SEEN);
      adjustments[word(at) + 1] = bits(0);
      places[token] = at - first + 1;
    }
    return first + places[token] - 1;
  }

  private static int word(int adjustment) {
    return ADJUSTMENT_WORDS * adjustment;
  }

  private int token(int adjustment) {
    return (int) adjustments[word(adjustment)];
  }

  private int count(int adjustment) {
    return (int) (adjustments[word(adjustment)] >> Integer.SIZE);
  }

  private static long pair(int low, int high) {
    return Integer.toUnsignedLong(low) | (long) high << Integer.SIZE;
  }

  private static long bits(double value) {
    return Double.doubleToRawLongBits(value);
  }

  private static long[] withRoom(long[] array, int length) {
    return array.length >= length
        ? array
        : Arrays.copyOf(array, Math.max(length, 2 * array.length));
  }

  private static int[] withRoom(int[] array, int length) {
    return array.length >= length
        ? array
        : Arrays.copyOf(array, Math.max(length, 2 * array.length));
  }

  /** Rows that need more than the largest logit. */
  int general() {
    return paramsCount;
  }

  /** Rows that do not. */
  int greedy() {
    return greedyCount;
  }

  /** Adjustments of all rows. */
  int adjustments() {
    return adjustmentCount;
  }

  /** Everything in one array: parameters, adjustments, two greedy rows' numbers per word. */
  long[] words() {
    int begin = paramsCount * PARAMS_WORDS;
    int rows = begin + adjustmentCount * ADJUSTMENT_WORDS;
    long[] all = new long[rows + Math.ceilDiv(greedyCount, 2)];
    System.arraycopy(params, 0, all, 0, begin);
    System.arraycopy(adjustments, 0, all, begin, rows - begin);
    for (int i = 0; i < greedyCount; i++) {
      all[rows + i / 2] |= Integer.toUnsignedLong(greedy[i]) << (i % 2 * Integer.SIZE);
    }
    return all;
  }
}
