package io.infinilora.weights;

import io.infinilora.core.DeltaNorm;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Predicate;

/**
 * How much an adapter changes each linear layer. The product {@code B A}, as large as the layer, is
 * never formed: {@code ||B A||_F^2 = trace((A A^T) (B^T B))}, of two matrices of the rank's size.
 */
public final class DeltaNorms {
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private DeltaNorms() {}

  private static final class Sum {
    int pairs;
    double squares;
  }

  /**
   * Norms by layer, then target; experts of a layer count together.
   *
   * @param held which modules count
   */
  public static List<DeltaNorm> of(PeftAdapter adapter, Predicate<AdaptedModule> held) {
    Map<Integer, Map<LoraTarget, Sum>> sums = new TreeMap<>();
    for (AdaptedModule module : adapter.modules()) {
      if (!held.test(module)) {
        continue;
      }
      Sum sum =
          sums.computeIfAbsent(module.layer(), l -> new EnumMap<>(LoraTarget.class))
              .computeIfAbsent(module.target(), t -> new Sum());
      sum.pairs++;
      sum.squares += squaredNorm(adapter.factors(module));
    }
    List<DeltaNorm> norms = new ArrayList<>();
    sums.forEach(
        (layer, targets) ->
            targets.forEach(
                (target, sum) ->
                    norms.add(new DeltaNorm(layer, target, sum.pairs, Math.sqrt(sum.squares)))));
    return norms;
  }

  private static double squaredNorm(LoraFactors factors) {
    double[] a = gram(factors.a(), true);
    double[] b = gram(factors.b(), false);
    double trace = 0;
    for (int i = 0; i < a.length; i++) {
      trace += a[i] * b[i]; // Both are symmetric.
    }
    // Rounding may leave a sum of squares that is zero slightly below it.
    return Math.max(0, trace) * factors.scale() * factors.scale();
  }

  /** Products of all pairs of rows, or of columns: {@code [rank, rank]}. */
  private static double[] gram(WeightMatrix matrix, boolean ofRows) {
    int rank = ofRows ? matrix.rows() : matrix.cols();
    int length = ofRows ? matrix.cols() : matrix.rows();
    double[] gram = new double[rank * rank];
    double[] vector = new double[rank];
    for (int i = 0; i < length; i++) {
      for (int r = 0; r < rank; r++) {
        vector[r] = ofRows ? value(matrix, r, i) : value(matrix, i, r);
      }
      for (int r = 0; r < rank; r++) {
        for (int s = 0; s < rank; s++) {
          gram[r * rank + s] += vector[r] * vector[s];
        }
      }
    }
    return gram;
  }

  private static double value(WeightMatrix matrix, int row, int col) {
    long at = matrix.element(row) + col * matrix.colStride();
    MemorySegment data = matrix.tensor().data();
    return switch (matrix.dtype()) {
      case F32 -> data.get(FLOAT, Float.BYTES * at);
      case BF16 -> Float.intBitsToFloat(data.get(SHORT, Short.BYTES * at) << Short.SIZE);
      case F16 -> Float.float16ToFloat(data.get(SHORT, Short.BYTES * at));
      default -> throw new IllegalArgumentException("not a plain matrix: " + matrix);
    };
  }
}
