package io.infinilora.backend.cuda;

import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/** Rows by index. The stream's thread only. */
final class RowOps {
  /** As {@code rows.cu} has it. */
  static final int THREADS = 256;

  /** An index of a row that is padding: kernels skip it. */
  private static final int NONE = -1;

  private final CudaStream stream;
  private final CudaChecks checks;
  private final HostResults results;
  private final Kernel gather;
  private final Kernel scatterAdd;
  private final Kernel gatherRouting;
  private final Kernel readRow;

  RowOps(CudaStream stream, CudaChecks checks, HostResults results) {
    this.stream = stream;
    this.checks = checks;
    this.results = results;
    CudaDevice device = stream.device();
    gather = device.kernel("rows", "gather");
    scatterAdd = device.kernel("rows", "scatter_add");
    gatherRouting = device.kernel("rows", "gather_routing");
    readRow = device.kernel("rows", "read_row");
  }

  /** Blocks of a kernel whose threads have {@code perRow} pieces of each row. */
  static int blocks(int rows, int perRow) {
    return Math.toIntExact(Math.ceilDiv((long) rows * perRow, THREADS));
  }

  /** Vectors of 8 columns in a row. */
  static int vectors(CudaTensor shape) {
    return shape.paddedCols() / CudaTensor.ALIGNMENT;
  }

  /** Indices on the device, those of padding rows behind them. */
  private long upload(int[] rows, int launched) {
    int[] padded = Arrays.copyOf(rows, launched);
    Arrays.fill(padded, rows.length, launched, NONE);
    return stream.upload(padded, 0, launched, launched);
  }

  /** See {@link io.infinilora.backend.OpStream#gather}. */
  void gather(Tensor x, int[] rows, Tensor out) {
    gather(x, rows, 0, out);
  }

  /**
   * The same for row numbers that are on the device already, padding included.
   *
   * @param onDevice their device address; 0 if they are not
   */
  void gather(Tensor x, int[] rows, long onDevice, Tensor out) {
    CudaTensor from = checks.tensor(x, "gather x");
    CudaTensor to = checks.tensor(out, rows.length, from.cols(), "gather out");
    checks.rowsBelow(rows, from.rows());
    int launched = stream.launchRows(rows.length);
    if (launched == 0) {
      return;
    }
    long indices = onDevice == 0 ? upload(rows, launched) : onDevice;
    stream
        .launch(gather)
        .tensor(from)
        .pointer(indices)
        .int32(launched)
        .int32(from.cols())
        .tensor(to)
        .grid(blocks(launched, vectors(from)))
        .block(THREADS)
        .dependent()
        .go();
  }

  /** See {@link io.infinilora.backend.OpStream#scatterAdd}. */
  void scatterAdd(Tensor x, int[] rows, Tensor y) {
    scatterAddTerms(x, 1, rows, y);
  }

  /** See {@link io.infinilora.backend.OpStream#scatterAddTerms}. */
  void scatterAddTerms(Tensor x, int terms, int[] rows, Tensor y) {
    CudaTensor to = checks.tensor(y, "scatterAdd y");
    checks.that(terms > 0, () -> "scatterAdd of " + terms + " terms");
    CudaTensor from =
        checks.tensor(x, Math.multiplyExact(rows.length, terms), to.cols(), "scatterAdd x");
    checks.that(from.address() != to.address(), () -> "scatterAdd in place");
    checks.rowsBelow(rows, to.rows());
    int launched = stream.launchRows(rows.length);
    if (launched == 0) {
      return;
    }
    long indices = upload(rows, launched);
    stream
        .launch(scatterAdd)
        .tensor(from)
        .int32(terms)
        .pointer(indices)
        .int32(launched)
        .int32(to.cols())
        .tensor(to)
        .grid(blocks(launched, vectors(to)))
        .block(THREADS)
        .dependent()
        .go();
  }

  /** See {@link io.infinilora.backend.OpStream#gatherRouting}. */
  void gatherRouting(Routing from, int[] rows, Routing out) {
    CudaRouting source = checks.routing(from, "gatherRouting from");
    CudaRouting to =
        checks.routing(out, rows.length, source.topK(), source.experts(), "gatherRouting out");
    checks.that(source.choices() != to.choices(), () -> "gatherRouting in place");
    checks.rowsBelow(rows, source.rows());
    int launched = stream.launchRows(rows.length);
    if (launched > 0) {
      launchGatherRouting(
          source.choices(),
          source.weights(),
          upload(rows, launched),
          launched,
          to.topK(),
          to.choices(),
          to.weights());
    }
    to.plan().madeFor(-1);
  }

  /**
   * Copies choices and weights, of rows at {@code indices} or, if that is 0, of all; addresses of
   * device or pinned memory.
   */
  void launchGatherRouting(
      long choices,
      long weights,
      long indices,
      int rows,
      int topK,
      long outChoices,
      long outWeights) {
    stream
        .launch(gatherRouting)
        .pointer(choices)
        .pointer(weights)
        .pointer(indices)
        .int32(rows)
        .int32(topK)
        .pointer(outChoices)
        .pointer(outWeights)
        .grid(blocks(rows, topK))
        .block(THREADS)
        .dependent()
        .go();
  }

  /** See {@link io.infinilora.backend.OpStream#read}. */
  void read(Tensor x, int row, float[] into) {
    CudaTensor t = checks.tensor(x, "read x");
    checks.that(
        row >= 0 && row < t.rows() && into.length >= t.cols(),
        () -> "read row " + row + " of " + t.shape() + " into " + into.length);
    long address = results.reserve((long) Float.BYTES * t.paddedCols());
    stream
        .launch(readRow)
        .tensor(t)
        .int32(row)
        .int32(t.cols())
        .pointer(address)
        .grid(blocks(1, vectors(t)))
        .block(THREADS)
        .dependent()
        .go();
    MemorySegment.copy(results.await(), ValueLayout.JAVA_FLOAT, 0, into, 0, t.cols());
  }
}
