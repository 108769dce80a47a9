package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.Map;

/**
 * Products of many routed rows by their experts' weights. On Hopper x is first brought into the
 * order of experts, since the copy engine takes boxes of neighbouring rows only: {@code
 * matrix_many.cu}; elsewhere {@code matrix_many_portable.cu}. Sums over a row's experts pass
 * through memory as {@code many_rows.cuh} says, elsewhere in float32. The stream's thread only.
 */
final class ManyRoutedRows {
  private static final int DEPTH = 64;

  /** Rows that an instruction multiplies. */
  private static final int UNIT_ROWS = 64;

  private static final int PORTABLE_THREADS = 256;
  private static final int GATHER_THREADS = 256;
  private static final int GATHER_COLUMNS = 8 * 4 * GATHER_THREADS;
  private static final int COMBINE_THREADS = 256;
  private static final int COMBINE_FEATURES = 8 * COMBINE_THREADS;

  /** Tensor maps that are kept: those of the weights, and of x by number of rows. */
  private static final int MAX_MAPS = 4096;

  private final CudaStream stream;
  private final TensorMaps maps;
  private final Kernel gather;
  private final Kernel combine;
  private final Kernel portable;
  private final Variant wideTiles;
  private final Variant narrowTiles;
  private final Map<Box, MemorySegment> encoded = new HashMap<>();

  /** What a product writes. */
  private enum Result {
    BF16(""),
    FLOAT32("_wide"),
    TERMS("_terms");

    final String suffix;

    Result(String suffix) {
      this.suffix = suffix;
    }
  }

  /** A size of tiles. */
  private static final class Variant {
    private static final int SLACK = 1024;

    private final Map<Result, Kernel> kernels = new EnumMap<>(Result.class);
    private final int rows;
    private final int columns;
    private final int stages;
    private final int threads;

    /**
     * A size of tiles.
     *
     * @param columns features of a tile
     * @param stages of the ring in shared memory
     */
    Variant(CudaDevice device, int rows, int columns, int stages, int threads) {
      this.rows = rows;
      this.columns = columns;
      this.stages = stages;
      this.threads = threads;
      for (Result result : Result.values()) {
        String name = "matrix_many%s_%d_%d".formatted(result.suffix, rows, columns);
        kernels.put(
            result, device.kernel("matrix_many", name).sharedLimit(shared(RoutingOps.MAX_EXPERTS)));
      }
    }

    int shared(int experts) {
      return stages * (rows + columns) * DEPTH * Short.BYTES + SLACK + 4 * (experts + 1);
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
    combine = device.kernel("sorted_rows", "combine_terms");
    portable = device.kernel("matrix_many_portable", "matrix_many_portable");
    wideTiles = hopper ? new Variant(device, 128, 256, 4, 384) : null;
    narrowTiles = hopper ? new Variant(device, 128, 128, 6, 384) : null;
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
    if (maps == null) {
      multiplyPortably(w, routing, x, routed, choices, y, yStride, wide);
    } else {
      Result result = wide ? Result.FLOAT32 : Result.BF16;
      multiplySorted(w, routing, x, routed, choices, y, yStride, result);
    }
  }

  /** Whether {@link #combine} can be called. */
  boolean combines() {
    return maps != null;
  }

  /**
   * {@code out[r]} is the sum of row r's choices, each multiplied with its expert's weights, times
   * the routing's weights.
   *
   * @param x a row per routed row
   * @param rows rows of {@code out} to launch for
   */
  void combine(
      CudaExpertProjection w, CudaRouting routing, CudaTensor x, CudaTensor out, int rows) {
    int routed = rows * routing.topK();
    int features = w.shape().paddedOut();
    long terms = stream.scratch((long) routed * features * Short.BYTES);
    multiplySorted(w, routing, x, routed, 1, terms, features, Result.TERMS);
    stream
        .launch(combine)
        .pointer(terms)
        .pointer(routing.choices())
        .pointer(routing.weights())
        .int32(routing.topK())
        .int32(features)
        .pointer(out.address())
        .int64(out.stride())
        .int32(out.wide() ? 1 : 0)
        .grid(Math.ceilDiv(features, COMBINE_FEATURES), rows)
        .block(COMBINE_THREADS)
        .dependent()
        .go();
  }

  private void multiplySorted(
      CudaExpertProjection w,
      CudaRouting routing,
      CudaTensor x,
      int routed,
      int choices,
      long y,
      long yStride,
      Result result) {
    StackedOutputs shape = w.shape();
    int width = shape.paddedIn();
    long sorted = stream.sideScratch((long) routed * width * Short.BYTES);
    stream
        .launch(gather)
        .pointer(x.address())
        .int64(x.stride())
        .pointer(routing.plan().sorted())
        .pointer(routing.plan().starts() + (long) Integer.BYTES * w.experts())
        .int32(choices)
        .int32(width)
        .pointer(sorted)
        .grid(Math.toIntExact(Math.ceilDiv((long) routed * width, GATHER_COLUMNS)))
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
        .launch(variant.kernels.get(result))
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
        .block(variant.threads)
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
