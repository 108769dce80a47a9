package io.infinilora.weights;

import io.infinilora.core.LoraFactors;
import io.infinilora.core.WeightMatrix;
import io.infinilora.weights.LoraModule.Order;
import java.lang.module.ModuleDescriptor.Version;
import java.util.Arrays;
import java.util.Optional;
import java.util.regex.Pattern;

/**
 * How PEFT stores the pair of a parameter {@code [experts, ., .]}: the rows of A by expert, then
 * rank; the columns of B by rank, then expert.
 *
 * <p>Which of the two dimensions A is on has changed: up to PEFT 0.18 the first, whatever it was;
 * in 0.19.0 the second if the module says {@code is_transposed}; since 0.19.1 the second unless it
 * says so. Modules say it since transformers 5 only: of the supported ones those whose parameters
 * are {@code [experts, in, out]}. So A may be on the outputs, and the pair is that of the
 * transposed matrix.
 */
final class StackedPairs {

  private static final Pattern RELEASE = Pattern.compile("\\d+\\.\\d+\\.\\d+");
  private static final Version IGNORES_TRANSPOSITION_BEFORE = Version.parse("0.19.0");
  private static final Version KEEPS_IN_BEFORE_OUT_SINCE = Version.parse("0.19.1");

  private StackedPairs() {}

  /**
   * Whether A is on the outputs, by the shapes.
   *
   * @return nothing if the shapes fit both ways
   */
  static Optional<Boolean> transposed(LoraModule module, int rank, long[] a, long[] b) {
    boolean plain = fits(module, rank, a, b, false);
    boolean transposed = fits(module, rank, a, b, true);
    return plain && transposed ? Optional.empty() : Optional.of(!plain && transposed);
  }

  private static boolean fits(LoraModule module, int rank, long[] a, long[] b, boolean transposed) {
    return Arrays.equals(a, module.shapeOfA(rank, transposed))
        && Arrays.equals(b, module.shapeOfB(rank, transposed));
  }

  /**
   * Whether A is on the outputs, by the version of PEFT.
   *
   * @return nothing if that does not tell
   */
  static Optional<Boolean> transposed(Order order, Optional<String> peftVersion) {
    if (peftVersion.isEmpty() || !RELEASE.matcher(peftVersion.get()).matches()) {
      return Optional.empty();
    }
    Version version = Version.parse(peftVersion.get());
    if (order == Order.OUT_IN) {
      return Optional.of(version.compareTo(KEEPS_IN_BEFORE_OUT_SINCE) < 0);
    }
    return version.compareTo(IGNORES_TRANSPOSITION_BEFORE) < 0
        ? Optional.of(false)
        : Optional.empty();
  }

  /** The pair of one expert, {@code [rank, in]} and {@code [out, rank]}. */
  static LoraFactors ofExpert(LoraFactors all, int expert, int experts, boolean transposed) {
    int rank = all.a().rows() / experts;
    WeightMatrix a = all.a().rows(expert * rank, 1, rank);
    WeightMatrix b = all.b().cols(expert, experts, rank);
    LoraFactors pair = new LoraFactors(a, b, all.scale());
    return transposed ? LoraSplit.transposed(pair) : pair;
  }
}
