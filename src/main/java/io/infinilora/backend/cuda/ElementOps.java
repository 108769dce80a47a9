package io.infinilora.backend.cuda;

import io.infinilora.backend.Embedding;
import io.infinilora.backend.NormParams;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec;

/** The embedding, norms and element-wise operators. The stream's thread only. */
final class ElementOps {
  /** As {@code elements.cu} has them. */
  private static final int THREADS = 256;

  private static final int WARP = 32;
  private static final int NORM_THREADS = 512;
  private static final int HEAD_THREADS = 128;

  /** Widest rows of a norm: a row is held in the registers of one block. */
  static final int MAX_NORM_COLS = 8 * CudaTensor.ALIGNMENT * NORM_THREADS;

  private final CudaStream stream;
  private final CudaChecks checks;
  private final Kernel embed;
  private final Kernel add;
  private final Kernel clamp;
  private final Kernel zero;
  private final Kernel gatedActivation;
  private final Kernel rmsNormHeads;

  /** By the binary logarithm of the vectors that a thread holds. */
  private final Kernel[] norms;

  ElementOps(CudaStream stream, CudaChecks checks) {
    this.stream = stream;
    this.checks = checks;
    embed = kernel("embed");
    add = kernel("add");
    clamp = kernel("clamp");
    zero = kernel("zero");
    gatedActivation = kernel("gated_activation");
    rmsNormHeads = kernel("rms_norm_heads");
    norms = new Kernel[] {kernel("norm_1"), kernel("norm_2"), kernel("norm_4"), kernel("norm_8")};
  }

  private Kernel kernel(String function) {
    return stream.device().kernel("elements", function);
  }

  /** Blocks of an element-wise kernel: a thread has 8 columns of a row. */
  private static int blocks(int rows, CudaTensor shape) {
    long vectors = (long) rows * (shape.paddedCols() / CudaTensor.ALIGNMENT);
    return Math.toIntExact(Math.ceilDiv(vectors, THREADS));
  }

  /** See {@link io.infinilora.backend.OpStream#embed}. */
  void embed(Embedding table, int[] tokens, Tensor out) {
    embed(table, tokens, 0, out);
  }

  /**
   * The same for tokens that are on the device already.
   *
   * @param onDevice their device address; 0 if they are not
   */
  void embed(Embedding table, int[] tokens, long onDevice, Tensor out) {
    CudaEmbedding from = checks.embedding(table);
    CudaTensor to = checks.tensor(out, tokens.length, from.hidden(), "embed out");
    checks.indices(tokens, from.vocab(), "token");
    int rows = stream.launchRows(to.rows());
    if (rows == 0) {
      return;
    }
    long indices = onDevice == 0 ? stream.upload(tokens, 0, tokens.length, rows) : onDevice;
    stream
        .launch(embed)
        .pointer(from.address())
        .int64(from.stride())
        .int32(from.vocab())
        .pointer(indices)
        .int32(rows)
        .int32(to.cols())
        .tensor(to)
        .grid(blocks(rows, to))
        .block(THREADS)
        .dependent()
        .go();
  }

  /** See {@link io.infinilora.backend.OpStream#norm}. */
  void norm(Tensor x, ModelSpec.Norm norm, Vec weight, float eps, Tensor out) {
    CudaTensor from = checks.tensor(x, "norm x");
    CudaVec w = checks.vec(weight, from.cols(), "norm weight");
    CudaTensor to = checks.sameShape(out, from, "norm out");
    launchNorm(from, null, norm, w, eps, to);
  }

  /** See {@link io.infinilora.backend.OpStream#addNorm}. */
  void addNorm(Tensor x, Tensor y, NormParams norm, Tensor out) {
    AddedNorm n = AddedNorm.of(checks, x, y, norm, out);
    launchNorm(n.x(), n.y(), norm.kind(), n.weight(), n.eps(), n.out());
  }

  private void launchNorm(
      CudaTensor x, CudaTensor y, ModelSpec.Norm norm, CudaVec weight, float eps, CudaTensor out) {
    checks.that(
        x.cols() <= MAX_NORM_COLS,
        () -> "norm of %s, wider than %d".formatted(x.shape(), MAX_NORM_COLS));
    int vectors = x.paddedCols() / CudaTensor.ALIGNMENT;
    int threads = Math.min(NORM_THREADS, Math.ceilDiv(vectors, WARP) * WARP);
    int held = Math.ceilDiv(vectors, threads);
    Launch launch =
        stream.launch(norms[Integer.SIZE - Integer.numberOfLeadingZeros(held - 1)]).tensor(x);
    if (y == null) {
      launch.pointer(0).int64(0).int32(0);
    } else {
      launch.tensor(y);
    }
    launch
        .pointer(weight.address())
        .int32(x.cols())
        .float32(eps)
        .int32(norm == ModelSpec.Norm.LAYER ? 1 : 0)
        .tensor(out)
        .grid(stream.launchRows(x.rows()))
        .block(threads)
        .dependent()
        .go();
  }

  /** See {@link io.infinilora.backend.OpStream#rmsNormHeads}. */
  void rmsNormHeads(Tensor x, Vec weight, float eps) {
    CudaTensor t = checks.tensor(x, "rmsNormHeads x");
    CudaVec w = checks.vec(weight, "rmsNormHeads weight");
    checks.that(
        t.cols() % w.size() == 0, () -> "heads of " + w.size() + " do not divide " + t.shape());
    int rows = stream.launchRows(t.rows());
    int heads = t.cols() / w.size();
    int lanes = lanes(w.size());
    stream
        .launch(rmsNormHeads)
        .tensor(t)
        .pointer(w.address())
        .int32(w.size())
        .int32(heads)
        .int32(rows)
        .int32(lanes)
        .float32(eps)
        .grid(Math.toIntExact(Math.ceilDiv((long) rows * heads * lanes, HEAD_THREADS)))
        .block(HEAD_THREADS)
        .dependent()
        .go();
  }

  /** Threads of a head: a power of 2, as many as have 8 of its elements, if those are whole. */
  private static int lanes(int size) {
    int vectors = Math.ceilDiv(size, CudaTensor.ALIGNMENT);
    return size % CudaTensor.ALIGNMENT == 0 && vectors < WARP
        ? Integer.highestOneBit(2 * vectors - 1)
        : WARP;
  }

  /** See {@link io.infinilora.backend.OpStream#clamp}. */
  void clamp(Tensor x, float bound) {
    CudaTensor t = checks.tensor(x, "clamp x");
    checks.that(bound >= 0, () -> "clamp to " + bound);
    int rows = stream.launchRows(t.rows());
    stream
        .launch(clamp)
        .tensor(t)
        .int32(rows)
        .int32(t.cols())
        .float32(bound)
        .grid(blocks(rows, t))
        .block(THREADS)
        .dependent()
        .go();
  }

  /** See {@link io.infinilora.backend.OpStream#add}. */
  void add(Tensor x, Tensor y) {
    CudaTensor from = checks.tensor(x, "add x");
    CudaTensor to = checks.sameShape(y, from, "add y");
    int rows = stream.launchRows(from.rows());
    stream
        .launch(add)
        .tensor(from)
        .int32(rows)
        .int32(from.cols())
        .tensor(to)
        .grid(blocks(rows, from))
        .block(THREADS)
        .dependent()
        .go();
  }

  /** What {@code activation.cuh} calls it. */
  static int code(Activation activation) {
    return switch (activation) {
      case SWIGLU -> 0;
      case SWIGLU_CLAMPED -> 1;
    };
  }

  /** See {@link io.infinilora.backend.OpStream#gatedActivation}. */
  void gatedActivation(Activation activation, Tensor gate, Tensor up, Tensor out) {
    CudaTensor g = checks.tensor(gate, "gatedActivation gate");
    CudaTensor u = checks.sameShape(up, g, "gatedActivation up");
    CudaTensor to = checks.sameShape(out, g, "gatedActivation out");
    int rows = stream.launchRows(g.rows());
    stream
        .launch(gatedActivation)
        .int32(code(activation))
        .tensor(g)
        .tensor(u)
        .int32(rows)
        .int32(g.cols())
        .tensor(to)
        .grid(blocks(rows, g))
        .block(THREADS)
        .dependent()
        .go();
  }

  /** See {@link io.infinilora.backend.OpStream#zero}. */
  void zero(Tensor x) {
    CudaTensor t = checks.tensor(x, "zero x");
    int rows = stream.launchRows(t.rows());
    stream
        .launch(zero)
        .tensor(t)
        .int32(rows)
        .int32(t.cols())
        .grid(blocks(rows, t))
        .block(THREADS)
        .dependent()
        .go();
  }
}
