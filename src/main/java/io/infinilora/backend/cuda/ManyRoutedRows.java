package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.Map;

/**
 * Products of many routed rows by their experts' weights. On Hopper x is first brought into the
 * order of experts, since the copy engine takes boxes of neighbouring rows only: {@code
 * matrix_many.cu}; elsewhere, and for float32 results, {@code matrix_many_portable.cu}. The
 * stream's thread only.
 */
final class ManyRoutedRows {
  private static final int TILE_ROWS = 128;
  private static final int DEPTH = 64;
  private static final int THREADS = 384;

  /** Rows that an instruction multiplies. */
  private static final int UNIT_ROWS = 64;

  private static final int PORTABLE_THREADS = 256;
  private static final int GATHER_THREADS = 256;
  private static final int GATHER_VECTORS = 4 * GATHER_THREADS;

  /** Vectors of 8 columns of a row that are gathered together if others want the row too. */
  private static final int GATHER_SLICE = 32;

  /** Tensor maps that are kept: those of the weights, and of x by number of rows. */
  private static final int MAX_MAPS = 4096;

  private final CudaStream stream;
  private final TensorMaps maps;
  private final Kernel gather;
  private final Kernel portable;
  private final Variant wideTiles;
  private final Variant narrowTiles;
  private final Map<Box, MemorySegment> encoded = new HashMap<>();

  /** A size of tiles. */
  private static final class Variant {
    private static final int SLACK = 1024;

    private final Kernel rows;
    private final Kernel terms;
    private final int columns;
    private final int stages;

    /**
     * A size of tiles.
     *
     * @param columns features of a tile
     * @param stages of the ring in shared memory
     */
    Variant(CudaDevice device, int columns, int stages) {
      this.columns = columns;
      this.stages = stages;
      int shared = shared(RoutingOps.MAX_EXPERTS);
      String tile = "_%d_%d".formatted(TILE_ROWS, columns);
      rows = device.kernel("matrix_many", "matrix_many" + tile).sharedLimit(shared);
      terms = device.kernel("matrix_many", "matrix_many_terms" + tile).sharedLimit(shared);
    }

    int shared(int experts) {
      return stages * (TILE_ROWS + columns) * DEPTH * Short.BYTES + SLACK + 4 * (experts + 1);
    }
  }

  /** What a tensor map is for. */
  private record Box(long address, long rows, long width, long stride, int experts, int boxRows) {}

  ManyRoutedRows(CudaStream stream) {
    this.stream = stream;
    CudaDevice device = stream.device();
    boolean hopper = device.hopper();
    maps = hopper ? new TensorMaps(device) : null;
    gather = device.kernel("sorted_rows", "gather_sorted");
    portable = device.kernel("matrix_many_portable", "matrix_many_portable");
    wideTiles = hopper ? new Variant(device, 256, 4) : null;
    narrowTiles = hopper ? new Variant(device, 128, 6) : null;
  }

  /**
   * {@code y[i] = x[i / choices] W_e^T + b_e} for each routed row i, e being its expert.
   *
   * @param routed routed rows to launch for
   * @param choices routed rows per row of {@code x}
   * @param y device address of the result, a row per routed row
   * @param wide whether y is float32
   */
  void multiply(
      CudaExpertProjection w,
      CudaRouting routing,
      CudaTensor x,
      int routed,
      int choices,
      long y,
      long yStride,
      boolean wide) {
    if (maps == null || wide) {
      multiplyPortably(w, routing, x, routed, choices, y, yStride, wide);
    } else {
      multiplySorted(w, routing, x, routed, choices, y, yStride, false);
    }
  }

  /** Whether {@link #multiplyToTerms} can be called. */
  boolean makesTerms() {
    return maps != null;
  }

  /**
   * The same with a row of x per routed row, and results as {@code many_rows.cuh} has terms of
   * sums: in fp16.
   */
  void multiplyToTerms(
      CudaExpertProjection w, CudaRouting routing, CudaTensor x, int routed, long y, long yStride) {
    multiplySorted(w, routing, x, routed, 1, y, yStride, true);
  }

  private void multiplySorted(
      CudaExpertProjection w,
      CudaRouting routing,
      CudaTensor x,
      int routed,
      int choices,
      long y,
      long yStride,
      boolean terms) {
    StackedOutputs shape = w.shape();
    int width = shape.paddedIn();
    int vectors = width / 8;
    int slice = choices == 1 ? vectors : Math.min(vectors, GATHER_SLICE);
    long sorted = stream.sideScratch((long) routed * width * Short.BYTES);
    stream
        .launch(gather)
        .pointer(x.address())
        .int64(x.stride())
        .pointer(routing.plan().sorted())
        .pointer(routing.plan().starts() + (long) Integer.BYTES * w.experts())
        .int32(choices)
        .int32(width)
        .int32(slice)
        .pointer(sorted)
        .grid(
            Math.toIntExact(Math.ceilDiv((long) routed * slice, GATHER_VECTORS)),
            Math.ceilDiv(vectors, slice))
        .block(GATHER_THREADS)
        .dependent()
        .go();
    if (encoded.size() > MAX_MAPS) {
      encoded.clear();
    }
    Variant variant = shape.paddedOut() <= narrowTiles.columns ? narrowTiles : wideTiles;
    MemorySegment mapX =
        encoded.computeIfAbsent(
            new Box(sorted, routed, width, width, 1, UNIT_ROWS),
            b ->
                maps.encode(
                    sorted,
                    new long[] {width, routed},
                    new long[] {width},
                    new int[] {DEPTH, UNIT_ROWS}));
    int features = shape.paddedOut();
    MemorySegment mapW =
        encoded.computeIfAbsent(
            new Box(w.weights(), features, width, width, w.experts(), variant.columns),
            b ->
                maps.encode(
                    w.weights(),
                    new long[] {width, features, w.experts()},
                    new long[] {width, (long) width * features},
                    new int[] {DEPTH, variant.columns, 1}));
    stream
        .launch(terms ? variant.terms : variant.rows)
        .bytes(mapX)
        .bytes(mapW)
        .pointer(routing.plan().starts())
        .pointer(routing.plan().sorted())
        .pointer(w.biases())
        .pointer(y)
        .int32(Math.toIntExact(yStride))
        .int32(routed)
        .int32(features)
        .int32(width)
        .int32(w.experts())
        .grid(stream.device().multiprocessors())
        .block(THREADS)
        .shared(variant.shared(w.experts()))
        .dependent()
        .go();
  }

  private void multiplyPortably(
      CudaExpertProjection w,
      CudaRouting routing,
      CudaTensor x,
      int routed,
      int choices,
      long y,
      long yStride,
      boolean wide) {
    stream
        .launch(portable)
        .pointer(x.address())
        .int32(x.stride())
        .int32(choices)
        .pointer(w.weights())
        .pointer(routing.plan().starts())
        .pointer(routing.plan().sorted())
        .pointer(w.biases())
        .pointer(y)
        .int32(Math.toIntExact(yStride))
        .int32(routed)
        .int32(w.shape().paddedOut())
        .int32(w.shape().paddedIn())
        .int32(w.experts())
        .int32(wide ? 1 : 0)
        .grid(2 * stream.device().multiprocessors())
        .block(PORTABLE_THREADS)
        .shared(4 * (w.experts() + 1))
        .dependent()
        .go();
  }
}
