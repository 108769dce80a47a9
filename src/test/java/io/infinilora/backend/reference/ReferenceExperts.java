package io.infinilora.backend.reference;

import io.infinilora.core.ModelSpec;
import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;

/** Routed layers in plain loops and double precision. */
public final class ReferenceExperts {
  private ReferenceExperts() {}

  /**
   * Experts and weights of each row.
   *
   * @param choices {@code [rows][topK]}
   * @param weights likewise
   */
  public record Routed(int[][] choices, double[][] weights) {}

  /** The choice of experts. */
  public static Routed route(double[][] logits, ModelSpec.Moe moe) {
    int[][] choices = new int[logits.length][];
    double[][] weights = new double[logits.length][];
    for (int r = 0; r < logits.length; r++) {
      double[] row = logits[r];
      choices[r] =
          IntStream.range(0, row.length)
              .boxed()
              .sorted(Comparator.comparingDouble((Integer e) -> 0.0 - row[e]).thenComparing(e -> e))
              .limit(moe.topK())
              .mapToInt(e -> e)
              .toArray();
      double[] chosen = Arrays.stream(choices[r]).mapToDouble(e -> Math.exp(row[e])).toArray();
      double all = Arrays.stream(row).map(Math::exp).sum();
      double kept = Arrays.stream(chosen).sum();
      double total = moe.softmaxFirst() && !moe.normalise() ? all : kept;
      weights[r] = Arrays.stream(chosen).map(e -> e / total).toArray();
    }
    return new Routed(choices, weights);
  }

  /** {@code [rows * topK, out]} of {@code x} [rows, in]; biases may be null. */
  public static double[][] project(
      Routed routed, double[][] x, double[][][] weights, double[][] biases) {
    int topK = routed.choices()[0].length;
    double[][] y = new double[x.length * topK][];
    for (int i = 0; i < y.length; i++) {
      int e = routed.choices()[i / topK][i % topK];
      y[i] = apply(x[i / topK], weights[e], biases == null ? null : biases[e]);
    }
    return y;
  }

  /** {@code [rows, out]} of {@code x} [rows * topK, in]; biases may be null. */
  public static double[][] combine(
      Routed routed, double[][] x, double[][][] weights, double[][] biases) {
    int topK = routed.choices()[0].length;
    double[][] y = new double[x.length / topK][weights[0].length];
    for (int i = 0; i < x.length; i++) {
      int e = routed.choices()[i / topK][i % topK];
      double[] product = apply(x[i], weights[e], biases == null ? null : biases[e]);
      for (int c = 0; c < product.length; c++) {
        y[i / topK][c] += routed.weights()[i / topK][i % topK] * product[c];
      }
    }
    return y;
  }

  private static double[] apply(double[] x, double[][] w, double[] b) {
    return ReferenceOps.linear(new double[][] {x}, w, b)[0];
  }
}
