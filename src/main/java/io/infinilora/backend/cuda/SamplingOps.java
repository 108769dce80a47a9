package io.infinilora.backend.cuda;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import io.infinilora.backend.SampleResult;
import io.infinilora.backend.SampleRow;
import io.infinilora.backend.Tensor;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenLogprobs;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Chooses tokens. Two kernels, one for rows that ask for the largest logit only, and one wait for
 * all rows. The stream's thread only.
 */
final class SamplingOps {
  // As sampling.cu has them.
  private static final int THREADS = 512;
  private static final int MAX_VOCAB = (1 << 20) - 1;
  private static final int BLOCKS = 8;
  private static final int OUTCOME_BYTES = 16 + 8 * SamplingParams.MAX_LOGPROBS;
  private static final int TOKEN = 0;
  private static final int BAD = 4;
  private static final int MOST = 8;
  private static final int LOGPROB = 12;
  private static final int TOP_TOKENS = 16;
  private static final int TOP_LOGPROBS = TOP_TOKENS + 4 * SamplingParams.MAX_LOGPROBS;

  /** Vocabularies up to this are too small to be worth several blocks per row. */
  private static final int ONE_BLOCK = 16_384;

  /** Most bytes of a row that a block keeps in shared memory. */
  private static final int MAX_SHARED = 200 << 10;

  private final CudaStream stream;
  private final CudaChecks checks;
  private final HostResults results;
  private final Kernel argmax;
  private final Kernel sampleRows;
  private final Kernel sampleRowsInWorkspace;
  private final boolean clusters;
  private SamplePlan plan = new SamplePlan(0);
  private int shared;

  SamplingOps(CudaStream stream, CudaChecks checks, HostResults results) {
    this.stream = stream;
    this.checks = checks;
    this.results = results;
    CudaDevice device = stream.device();
    argmax = device.kernel("sampling", "argmax");
    sampleRows = device.kernel("sampling", "sample_rows");
    sampleRowsInWorkspace = device.kernel("sampling", "sample_rows_in_workspace");
    clusters = device.hopper();
  }

  /** See {@link io.infinilora.backend.OpStream#sample}; logits are float32 and stay as they are. */
  List<SampleResult> sample(Tensor logits, List<SampleRow> rows) {
    CudaTensor t = checks.tensor(logits, "sample logits");
    checks.that(t.rows() == rows.size(), () -> rows.size() + " rows to sample of " + t.shape());
    checks.that(t.wide(), () -> "logits must be float32");
    checks.that(t.cols() <= MAX_VOCAB, () -> "sample of more than " + MAX_VOCAB + " tokens");
    if (rows.isEmpty()) {
      return List.of();
    }
    if (plan.vocab() != t.cols()) {
      plan = new SamplePlan(t.cols());
    }
    plan.make(rows);
    long outcomes = results.reserve((long) OUTCOME_BYTES * rows.size());
    launch(t, outcomes);
    MemorySegment memory = results.await();
    List<SampleResult> drawn = new ArrayList<>(rows.size());
    for (int i = 0; i < rows.size(); i++) {
      MemorySegment outcome = memory.asSlice((long) OUTCOME_BYTES * i, OUTCOME_BYTES);
      drawn.add(result(outcome, i, Math.min(rows.get(i).params().logprobs(), t.cols())));
    }
    return List.copyOf(drawn);
  }

  private void launch(CudaTensor t, long outcomes) {
    long params = 0;
    if (plan.general() > 0 || plan.greedy() < t.rows()) {
      long[] words = plan.words();
      params = stream.upload(words, 0, words.length, words.length);
    }
    long adjustments = params + 8L * SamplePlan.PARAMS_WORDS * plan.general();
    long greedyRows = adjustments + 8L * SamplePlan.ADJUSTMENT_WORDS * plan.adjustments();
    int blocks = blocks(clusters, t.cols());
    stream
        .launch(argmax)
        .pointer(t.address())
        .int64(t.stride())
        .int32(t.cols())
        .pointer(plan.greedy() == t.rows() ? 0 : greedyRows)
        .pointer(outcomes)
        .grid(plan.greedy() > 0 ? blocks : 0, plan.greedy())
        .block(THREADS)
        .cluster(blocks)
        .dependent()
        .go();
    if (plan.general() > 0) {
      launchGeneral(t, blocks, params, adjustments, outcomes);
    }
  }

  private void launchGeneral(
      CudaTensor t, int blocks, long params, long adjustments, long outcomes) {
    int part = part(t.cols(), blocks);
    boolean fits = fits(clusters, t.cols());
    if (fits && part > shared) {
      sampleRows.sharedLimit(part);
      shared = part;
    }
    Launch launch =
        stream
            .launch(fits ? sampleRows : sampleRowsInWorkspace)
            .pointer(t.address())
            .int64(t.stride())
            .int32(t.cols())
            .pointer(params)
            .pointer(adjustments);
    if (!fits) {
      launch.pointer(stream.scratch((long) Float.BYTES * rounded(t.cols()) * plan.general()));
    }
    launch
        .pointer(outcomes)
        .grid(blocks, plan.general())
        .block(THREADS)
        .shared(fits ? part : 0)
        .cluster(blocks)
        .dependent()
        .go();
  }

  /** Blocks of a row. */
  private static int blocks(boolean clusters, int vocab) {
    return clusters && vocab > ONE_BLOCK ? BLOCKS : 1;
  }

  /** Bytes of a row that a block keeps. */
  private static int part(int vocab, int blocks) {
    return Float.BYTES * rounded(Math.ceilDiv(vocab, blocks));
  }

  /** Whether rows that are sorted fit into the shared memory of their blocks. */
  static boolean fits(boolean clusters, int vocab) {
    return clusters ? part(vocab, blocks(true, vocab)) <= MAX_SHARED : vocab <= ONE_BLOCK;
  }

  static int rounded(int tokens) {
    return (tokens + 3) / 4 * 4;
  }

  private static SampleResult result(MemorySegment outcome, int row, int alternatives) {
    if (outcome.get(JAVA_INT, BAD) != 0) {
      throw new InfiniLoraException(
          ErrorCode.INTERNAL,
          "row %d of the logits holds %s".formatted(row, outcome.get(JAVA_FLOAT, MOST)));
    }
    int token = outcome.get(JAVA_INT, TOKEN);
    if (alternatives < 0) {
      return new SampleResult(token, null);
    }
    int[] tokens = new int[alternatives];
    float[] logprobs = new float[alternatives];
    MemorySegment.copy(outcome, JAVA_INT, TOP_TOKENS, tokens, 0, alternatives);
    MemorySegment.copy(outcome, JAVA_FLOAT, TOP_LOGPROBS, logprobs, 0, alternatives);
    return new SampleResult(
        token, new TokenLogprobs(outcome.get(JAVA_FLOAT, LOGPROB), tokens, logprobs));
  }
}
