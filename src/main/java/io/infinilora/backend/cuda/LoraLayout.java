package io.infinilora.backend.cuda;

import io.infinilora.core.DType;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraSite;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * Where in a sequence of pages the matrices of an adapter go: places are counted from the first
 * page as if all were adjacent. Looks at shapes only. No piece crosses a page, so that any pages
 * can take them. A matrix that several pairs share, as adapters of fused experts do, is placed
 * once. Behind the matrices lie the tables that say where the pieces are, which are written when
 * the pages are known.
 */
final class LoraLayout {
  /** Bytes of a page: the largest piece, 64 outputs of a B at the highest rank. */
  static final int PAGE_BYTES = 64 << 10;

  /** The highest rank. */
  static final int MAX_RANK = 512;

  /** Targets of a site at most, as the kernels have it. */
  static final int MAX_TARGETS = 3;

  /** Bytes of an expert's entry: the names of its tables. */
  static final int EXPERT_BYTES = (1 + MAX_TARGETS) * Long.BYTES;

  /** Bytes before the addresses of a table of B: the scale. */
  static final int HEAD_BYTES = 16;

  private static final int TABLE_ALIGNMENT = 16;

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

  private final List<LoraPieces> as = new ArrayList<>();
  private final List<LoraPieces> bs = new ArrayList<>();
  private final Map<View, LoraPieces> shared = new HashMap<>();
  private final Map<View, LoraPieces> sharedB = new HashMap<>();

  private final Map<LoraSite, LoraSitePlan> dense = new EnumMap<>(LoraSite.class);
  private final Map<LoraSite, LoraExpertsPlan> routed = new EnumMap<>(LoraSite.class);
  private final long tables;
  private long end;
  private long bytes;

  /**
   * Places a layer.
   *
   * @throws IllegalArgumentException if A and B, the inputs of two pairs of a site, the targets or
   *     outputs of its experts do not fit together, or a rank is too high
   */
  LoraLayout(LayerFactors factors) {
    factors
        .dense()
        .forEach(
            (site, pairs) -> {
              if (present(pairs)) {
                dense.put(site, pairs(pairs, 0));
              }
            });
    factors
        .routed()
        .forEach(
            (site, experts) -> {
              if (experts.stream().anyMatch(LoraLayout::present)) {
                routed.put(site, experts(experts));
              }
            });
    tables = end;
    dense.replaceAll((site, plan) -> withTables(plan));
    routed.replaceAll((site, plan) -> withTables(plan));
  }

  /** Dense sites that have pairs. */
  Map<LoraSite, LoraSitePlan> dense() {
    return dense;
  }

  /** Routed sites that have pairs. */
  Map<LoraSite, LoraExpertsPlan> routed() {
    return routed;
  }

  /** Pages begun so far. */
  int pages() {
    return Math.toIntExact(Math.ceilDiv(end, PAGE_BYTES));
  }

  /** Bytes from the first page's begin to the end of what lies last. */
  long extent() {
    return end;
  }

  /** Bytes of all matrices. */
  long bytes() {
    return bytes;
  }

  /** Where the tables begin; nothing else follows. */
  long tables() {
    return tables;
  }

  /** Every A, once. */
  List<LoraPieces> as() {
    return as;
  }

  /** Every B, once. */
  List<LoraPieces> bs() {
    return bs;
  }

  /** Whether there is a pair. */
  static boolean present(List<LoraFactors> site) {
    return site != null && site.stream().anyMatch(Objects::nonNull);
  }

  /**
   * A pair per target of a site, matrices placed, tables not.
   *
   * @param in what A's input must be; 0 for any
   */
  private LoraSitePlan pairs(List<LoraFactors> factors, int in) {
    if (factors.size() > MAX_TARGETS) {
      throw new IllegalArgumentException(factors.size() + " targets of a site");
    }
    long before = bytes;
    Map<LoraPieces, Integer> blocks = new LinkedHashMap<>();
    List<LoraPair> pairs = new ArrayList<>();
    int width = in;
    int block = 0;
    for (LoraFactors pair : factors) {
      if (pair == null) {
        pairs.add(LoraPair.ABSENT);
        continue;
      }
      WeightMatrix a = pair.a();
      WeightMatrix b = pair.b();
      check(a, b, width);
      width = a.cols();
      LoraPieces placedA =
          a.rowOrder() != null ? placeA(a) : shared.computeIfAbsent(View.of(a), view -> placeA(a));
      LoraPieces placedB =
          b.rowOrder() != null ? placeB(b) : sharedB.computeIfAbsent(View.of(b), view -> placeB(b));
      Integer at = blocks.putIfAbsent(placedA, block);
      if (at == null) {
        at = block;
        block += LoraPieces.rankBlocks(a.rows());
      }
      pairs.add(new LoraPair(a.rows(), at, placedB, pair.scale()));
    }
    return new LoraSitePlan(
        List.copyOf(blocks.keySet()), List.copyOf(pairs), width, bytes - before, 0, null);
  }

  private static void check(WeightMatrix a, WeightMatrix b, int in) {
    if (b.cols() != a.rows() || (in != 0 && a.cols() != in)) {
      throw new IllegalArgumentException("LoRA factors do not fit: " + a + ", " + b);
    }
    if (a.rows() > MAX_RANK) {
      throw new IllegalArgumentException(
          "%s: a rank of %d; the highest is %d".formatted(b, a.rows(), MAX_RANK));
    }
    if (a.dtype().quantised() || a.dtype() == DType.U8 || b.dtype().quantised()) {
      throw new IllegalArgumentException("LoRA factors " + a + ", " + b + " are no plain numbers");
    }
  }

  private LoraExpertsPlan experts(List<List<LoraFactors>> factors) {
    long before = bytes;
    int[] outs = new int[targets(factors)];
    List<LoraSitePlan> plans = new ArrayList<>();
    int in = 0;
    for (List<LoraFactors> site : factors) {
      if (!present(site)) {
        plans.add(null);
        continue;
      }
      LoraSitePlan plan = pairs(site, in);
      in = plan.in();
      for (int t = 0; t < outs.length; t++) {
        int out = plan.pairs().get(t).out();
        if (out != 0 && outs[t] != 0 && outs[t] != out) {
          throw new IllegalArgumentException("experts with outputs of " + outs[t] + " and " + out);
        }
        outs[t] = Math.max(outs[t], out);
      }
      plans.add(plan);
    }
    return new LoraExpertsPlan(plans, outs, in, bytes - before, 0);
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

  private LoraExpertsPlan withTables(LoraExpertsPlan plan) {
    List<LoraSitePlan> experts = new ArrayList<>(plan.experts());
    experts.replaceAll(expert -> expert == null ? null : withTables(expert));
    long table = table((long) experts.size() * EXPERT_BYTES);
    return new LoraExpertsPlan(experts, plan.outs(), plan.in(), plan.bytes(), table);
  }

  private LoraSitePlan withTables(LoraSitePlan plan) {
    long tableA = table((long) plan.rankBlocks() * LoraPieces.chunks(plan.in()) * Long.BYTES);
    long[] tablesB =
        plan.pairs().stream()
            .mapToLong(
                p ->
                    p.rank() == 0
                        ? 0
                        : table(HEAD_BYTES + (long) p.b().places().length * Long.BYTES))
            .toArray();
    return new LoraSitePlan(plan.stack(), plan.pairs(), plan.in(), plan.bytes(), tableA, tablesB);
  }

  private LoraPieces placeA(WeightMatrix a) {
    int chunks = LoraPieces.chunks(a.cols());
    long[] places = new long[LoraPieces.rankBlocks(a.rows()) * chunks];
    Arrays.setAll(places, i -> piece(LoraPieces.bytesOfA(a.cols(), i % chunks)));
    LoraPieces placed = new LoraPieces(a, places);
    as.add(placed);
    return placed;
  }

  private LoraPieces placeB(WeightMatrix b) {
    long[] places = new long[Math.ceilDiv(b.rows(), LoraPieces.FEATURE_BLOCK)];
    Arrays.setAll(places, i -> piece(LoraPieces.bytesOfB(b.cols())));
    LoraPieces placed = new LoraPieces(b, places);
    bs.add(placed);
    return placed;
  }

  private long piece(int size) {
    bytes += size;
    return take(size);
  }

  private long table(long size) {
    if (size > PAGE_BYTES) {
      throw new IllegalArgumentException("an adapter's table takes %d bytes".formatted(size));
    }
    return take(Math.ceilDiv(size, (long) TABLE_ALIGNMENT) * TABLE_ALIGNMENT);
  }

  private long take(long size) {
    if (end % PAGE_BYTES + size > PAGE_BYTES) {
      end = Math.ceilDiv(end, PAGE_BYTES) * (long) PAGE_BYTES;
    }
    long place = end;
    end += size;
    return place;
  }
}
