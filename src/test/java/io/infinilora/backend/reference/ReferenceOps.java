package io.infinilora.backend.reference;

import io.infinilora.core.Activation;
import java.util.Arrays;

/**
 * The operators' definitions in plain loops and double precision: the oracle of the backends'
 * tests. Matrices are {@code double[rows][cols]}.
 */
public final class ReferenceOps {
  private ReferenceOps() {}

  /** {@code x W^T + b}; b may be null. */
  public static double[][] linear(double[][] x, double[][] w, double[] b) {
    double[][] y = new double[x.length][w.length];
    for (int r = 0; r < x.length; r++) {
      for (int o = 0; o < w.length; o++) {
        double sum = b == null ? 0 : b[o];
        for (int k = 0; k < w[o].length; k++) {
          sum += x[r][k] * w[o][k];
        }
        y[r][o] = sum;
      }
    }
    return y;
  }

  /** RMS norm of each group of {@code weight.length} elements. */
  public static double[][] rmsNorm(double[][] x, double[] weight, double eps) {
    double[][] y = new double[x.length][];
    for (int r = 0; r < x.length; r++) {
      y[r] = new double[x[r].length];
      for (int from = 0; from < x[r].length; from += weight.length) {
        double sum = 0;
        for (int i = 0; i < weight.length; i++) {
          sum += x[r][from + i] * x[r][from + i];
        }
        double factor = 1 / Math.sqrt(sum / weight.length + eps);
        for (int i = 0; i < weight.length; i++) {
          y[r][from + i] = x[r][from + i] * factor * weight[i];
        }
      }
    }
    return y;
  }

  /** Layer norm of each row, without an offset. */
  public static double[][] layerNorm(double[][] x, double[] weight, double eps) {
    double[][] y = new double[x.length][weight.length];
    for (int r = 0; r < x.length; r++) {
      double mean = Arrays.stream(x[r]).average().orElse(0);
      double variance = Arrays.stream(x[r]).map(v -> (v - mean) * (v - mean)).average().orElse(0);
      for (int i = 0; i < weight.length; i++) {
        y[r][i] = (x[r][i] - mean) / Math.sqrt(variance + eps) * weight[i];
      }
    }
    return y;
  }

  /** Gated activation. */
  public static double gated(Activation activation, double gate, double up) {
    return switch (activation) {
      case SWIGLU -> gate / (1 + Math.exp(-gate)) * up;
      case SWIGLU_CLAMPED -> {
        double g = Math.min(gate, 7);
        double u = Math.max(-7, Math.min(up, 7));
        yield (u + 1) * g / (1 + Math.exp(-1.702 * g));
      }
    };
  }

  /** Rotates each head of a row by its position. */
  public static double[] rotate(
      double[] row, int headDim, int position, double[] inverseFrequencies, double magnitude) {
    double[] y = new double[row.length];
    int half = headDim / 2;
    for (int head = 0; head < row.length; head += headDim) {
      for (int i = 0; i < half; i++) {
        double cos = Math.cos(position * inverseFrequencies[i]) * magnitude;
        double sin = Math.sin(position * inverseFrequencies[i]) * magnitude;
        y[head + i] = row[head + i] * cos - row[head + half + i] * sin;
        y[head + half + i] = row[head + half + i] * cos + row[head + i] * sin;
      }
    }
    return y;
  }

  /**
   * Attention of one query row at {@code position} over keys and values {@code [position][kvHeads *
   * headDim]}.
   *
   * @param sinks a logit per head, or null
   */
  public static double[] attention(
      double[] q,
      double[][] keys,
      double[][] values,
      int position,
      int heads,
      int kvHeads,
      double scale,
      int window,
      double[] sinks) {
    int headDim = q.length / heads;
    double[] out = new double[q.length];
    int from = window == 0 ? 0 : Math.max(0, position - window + 1);
    for (int h = 0; h < heads; h++) {
      int kv = h / (heads / kvHeads) * headDim;
      double[] scores = new double[position + 1];
      double most = sinks == null ? Double.NEGATIVE_INFINITY : sinks[h];
      for (int p = from; p <= position; p++) {
        for (int d = 0; d < headDim; d++) {
          scores[p] += q[h * headDim + d] * keys[p][kv + d];
        }
        scores[p] *= scale;
        most = Math.max(most, scores[p]);
      }
      double total = sinks == null ? 0 : Math.exp(sinks[h] - most);
      for (int p = from; p <= position; p++) {
        total += Math.exp(scores[p] - most);
      }
      for (int p = from; p <= position; p++) {
        double weight = Math.exp(scores[p] - most) / total;
        for (int d = 0; d < headDim; d++) {
          out[h * headDim + d] += weight * values[p][kv + d];
        }
      }
    }
    return out;
  }
}
