package io.infinilora.backend.cpu;

import io.infinilora.core.DType;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * Where in a sequence of pages the matrices of an adapter go: addresses in what it returns are
 * places, counted from the first page as if all were adjacent. Looks at shapes only. No piece
 * crosses a page, so that any pages can take them: A is cut where a page ends, B between panels. A
 * matrix that several pairs share, as adapters of fused experts do, is placed once.
 *
 * <p>bfloat16 stays bfloat16, everything else becomes (A) or stays (B) exact.
 */
final class LoraLayout {
  /**
   * Bytes of a page, as small as possible so that little is lost in a layer's last one: the largest
   * thing that is not cut, a panel of B, takes this with 32 lanes and float32 at the highest rank
   * of adapters, 512.
   */
  static final int PAGE_BYTES = 64 << 10;

  /** What is to be packed as rows. */
  record PlacedRows(WeightMatrix source, LoraRows to) {}

  /** What is to be packed as panels. */
  record PlacedPanels(WeightMatrix source, LoraPanels to) {}

  /** What makes two views of a file the same matrix. */
  private record View(
      MemorySegment data,
      DType dtype,
      long offset,
      int rows,
      int cols,
      long rowStride,
      long colStride) {

    static View of(WeightMatrix m) {
      return new View(
          m.tensor().data(),
          m.dtype(),
          m.offset(),
          m.rows(),
          m.cols(),
          m.rowStride(),
          m.colStride());
    }
  }

  private final List<PlacedRows> rows = new ArrayList<>();
  private final List<PlacedPanels> panels = new ArrayList<>();
  private final Map<View, LoraRows> rowsOf = new HashMap<>();
  private final Map<View, LoraPanels> panelsOf = new HashMap<>();

  /** First place that is free. */
  private long end;

  /** Sum of all pieces, without what is lost between them. */
  private long bytes;

  /** Pages begun so far. */
  int pages() {
    return Math.toIntExact(Math.ceilDiv(end, PAGE_BYTES));
  }

  /** Bytes from the first page's begin to the last piece's end. */
  long extent() {
    return end;
  }

  /** Bytes of all pieces. */
  long bytes() {
    return bytes;
  }

  /** Every A, once. */
  List<PlacedRows> rows() {
    return rows;
  }

  /** Every B, once. */
  List<PlacedPanels> panels() {
    return panels;
  }

  /**
   * Places a site.
   *
   * @param factors one per target, null for absent ones
   * @throws IllegalArgumentException if A and B, or the inputs of two pairs, do not fit together
   */
  DensePairs dense(List<LoraFactors> factors) {
    long before = bytes;
    int in = 0;
    LoraPair[] pairs = new LoraPair[factors.size()];
    for (int t = 0; t < pairs.length; t++) {
      pairs[t] = pair(factors.get(t), in);
      in = factors.get(t) == null ? in : factors.get(t).a().cols();
    }
    return new DensePairs(pairs, in, bytes - before);
  }

  /**
   * Places a routed site.
   *
   * @param factors per expert one per target, null for absent ones
   * @throws IllegalArgumentException likewise, or if no expert has a pair, or experts differ in the
   *     number of targets or their outputs
   */
  ExpertPairs experts(List<List<LoraFactors>> factors) {
    long before = bytes;
    int in = 0;
    int[] outs = new int[targets(factors)];
    LoraPair[][] experts = new LoraPair[factors.size()][];
    for (int e = 0; e < experts.length; e++) {
      List<LoraFactors> site = factors.get(e);
      if (!present(site)) {
        continue;
      }
      experts[e] = new LoraPair[outs.length];
      for (int t = 0; t < outs.length; t++) {
        LoraFactors pair = site.get(t);
        experts[e][t] = pair(pair, in);
        if (pair == null) {
          continue;
        }
        in = pair.a().cols();
        if (outs[t] != 0 && outs[t] != pair.b().rows()) {
          throw new IllegalArgumentException(
              "experts with outputs of " + outs[t] + " and " + pair.b().rows());
        }
        outs[t] = pair.b().rows();
      }
    }
    return new ExpertPairs(experts, outs, in, bytes - before);
  }

  /** Whether there is a pair. */
  static boolean present(List<LoraFactors> site) {
    return site != null && site.stream().anyMatch(Objects::nonNull);
  }

  /** The number of targets, which is that of every expert. */
  private static int targets(List<List<LoraFactors>> factors) {
    int targets =
        factors.stream()
            .filter(LoraLayout::present)
            .findFirst()
            .orElseThrow(() -> new IllegalArgumentException("an adapter without any expert"))
            .size();
    for (List<LoraFactors> site : factors) {
      if (site != null && site.size() != targets) {
        throw new IllegalArgumentException(
            "experts with " + targets + " and " + site.size() + " targets");
      }
    }
    return targets;
  }

  /**
   * @param in what A's input must be; 0 for any
   */
  private LoraPair pair(LoraFactors factors, int in) {
    if (factors == null) {
      return LoraPair.ABSENT;
    }
    WeightMatrix a = factors.a();
    WeightMatrix b = factors.b();
    if (b.cols() != a.rows() || (in != 0 && a.cols() != in)) {
      throw new IllegalArgumentException("LoRA factors do not fit: " + a + ", " + b);
    }
    LoraRows packedA =
        a.rowOrder() != null ? placeA(a) : rowsOf.computeIfAbsent(View.of(a), view -> placeA(a));
    LoraPanels packedB =
        b.rowOrder() != null ? placeB(b) : panelsOf.computeIfAbsent(View.of(b), view -> placeB(b));
    return new LoraPair(a.rows(), packedA, packedB, factors.scale());
  }

  private LoraRows placeA(WeightMatrix a) {
    boolean brain = a.dtype() == DType.BF16;
    int steps = LoraKernels.steps(a.cols());
    long stepBytes = LoraKernels.RANKS * LoraKernels.stepBytes(brain);
    int rank = Memory.roundUp(a.rows(), LoraKernels.RANKS);
    List<LoraRows.Run> runs = new ArrayList<>();
    align();
    int row = 0;
    int step = 0;
    while (row < rank) {
      int fit = (int) (left() / stepBytes);
      if (fit == 0) {
        nextPage();
      } else if (step == 0 && fit >= steps) {
        int ranks = Math.min(fit / steps * LoraKernels.RANKS, rank - row);
        runs.add(new LoraRows.Run(end, row, ranks, 0, steps));
        take(stepBytes * steps * (ranks / LoraKernels.RANKS));
        row += ranks;
      } else {
        int some = Math.min(fit, steps - step);
        runs.add(new LoraRows.Run(end, row, LoraKernels.RANKS, step, some));
        take(some * stepBytes);
        step += some;
        if (step == steps) {
          step = 0;
          row += LoraKernels.RANKS;
        }
      }
    }
    LoraRows placed = new LoraRows(a.rows(), brain, List.copyOf(runs));
    rows.add(new PlacedRows(a, placed));
    return placed;
  }

  private LoraPanels placeB(WeightMatrix b) {
    PackedFormat format = PackedFormat.of(b.dtype());
    long panelBytes = PackedMatrix.panelBytes(format, b.cols());
    if (panelBytes > PAGE_BYTES) {
      throw new IllegalArgumentException(
          "%s: a rank of %d takes %d bytes per %d outputs, more than a page of %d"
              .formatted(b, b.cols(), panelBytes, TileKernels.PANEL, PAGE_BYTES));
    }
    List<PackedMatrix> pieces = new ArrayList<>();
    align();
    int row = 0;
    while (row < b.rows()) {
      int fit = (int) Math.min(left() / panelBytes, PackedMatrix.panels(b.rows() - row));
      if (fit == 0) {
        nextPage();
      } else {
        int out = Math.min(fit * TileKernels.PANEL, b.rows() - row);
        pieces.add(new PackedMatrix(format, out, b.cols(), end, 0, fit * panelBytes));
        take(fit * panelBytes);
        row += out;
      }
    }
    LoraPanels placed = new LoraPanels(b.rows(), List.copyOf(pieces));
    panels.add(new PlacedPanels(b, placed));
    return placed;
  }

  private long left() {
    return PAGE_BYTES - end % PAGE_BYTES;
  }

  private void align() {
    end = Math.ceilDiv(end, (long) Memory.ALIGNMENT) * Memory.ALIGNMENT;
  }

  private void nextPage() {
    end += left();
  }

  private void take(long size) {
    end += size;
    bytes += size;
  }
}
