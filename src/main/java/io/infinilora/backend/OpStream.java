package io.infinilora.backend;

import io.infinilora.core.Activation;
import java.util.List;

/**
 * Executes operators in the order of the calls, on behalf of one driver thread. Shapes are checked;
 * a mismatch throws {@link IllegalArgumentException} and changes nothing. Zero rows are allowed
 * everywhere and do nothing.
 *
 * <p>Results of a row do not depend on the other rows of the call: on the CPU bit for bit.
 */
public interface OpStream extends AutoCloseable {

  /** {@code out[i] = table[tokens[i]]}; {@code out} is {@code [tokens.length, hidden]}. */
  void embed(Embedding table, int[] tokens, Tensor out);

  /** {@code out[i] = x[i] / sqrt(mean(x[i]^2) + eps) * weight}; {@code out} may be {@code x}. */
  void rmsNorm(Tensor x, Vec weight, float eps, Tensor out);

  /**
   * RMS norm of each group of {@code weight.size()} elements of each row (q and k norms), in place.
   */
  void rmsNormHeads(Tensor x, Vec weight, float eps);

  /**
   * {@code outs[i] = x W_i^T + b_i}; {@code x} is {@code [rows, in]}, {@code outs[i]} is {@code
   * [rows, out_i]}.
   */
  void project(Projection weights, Tensor x, Tensor... outs);

  /** {@code y += x}, same shapes. */
  void add(Tensor x, Tensor y);

  /**
   * {@code out = activation(gate, up)}, same shapes; {@code out} may be {@code gate} or {@code up}.
   */
  void gatedActivation(Activation activation, Tensor gate, Tensor up, Tensor out);

  /**
   * Rotates q and k by their rows' positions (in place) and writes k and v into the cache at their
   * positions.
   *
   * @param q {@code [rows, heads * headDim]}
   * @param k {@code [rows, kvHeads * headDim]}
   * @param v like k
   */
  void ropeAndStore(
      BatchLayout batch, RopeTable rope, Tensor q, Tensor k, Tensor v, KvCache cache, int layer);

  /**
   * Causal attention of each row over its sequence's cached keys and values, its own position
   * included.
   *
   * @param q {@code [rows, heads * headDim]}, rotated
   * @param out like q
   */
  void attention(
      BatchLayout batch, Tensor q, KvCache cache, int layer, AttentionParams params, Tensor out);

  /** {@code out[i] = x[rows[i]]}. */
  void gather(Tensor x, int[] rows, Tensor out);

  /** {@code y[rows[i]] += x[i]}; {@code rows} are distinct. */
  void scatterAdd(Tensor x, int[] rows, Tensor y);

  /** Sets all elements to 0. */
  void zero(Tensor x);

  /**
   * Low-rank products: for each group g, each of its rows r and each target t that {@code
   * weights.get(g)} has: {@code outs[t][r] += scale_t B_t (A_t x[r])}. The product is complete
   * before it is added, so that adding to zeros and adding the result later is the same sum.
   *
   * @param weights one per group; null for a group without weights at this site
   * @param x {@code [rows, in]}
   * @param outs one per target of the site, {@code [rows, out_t]}; entries may be null where no
   *     group has the target
   */
  void loraAdd(RowGroups groups, List<LoraWeights> weights, Tensor x, Tensor... outs);

  /**
   * Chooses a token per row of logits and waits for the result.
   *
   * @param logits {@code [rows.size(), vocab]}; may be overwritten
   */
  List<SampleResult> sample(Tensor logits, List<SampleRow> rows);

  /**
   * Copies one row to the host and waits for it.
   *
   * @param into at least {@code cols} elements
   */
  void read(Tensor x, int row, float[] into);

  /**
   * Releases a signal once everything called so far is done. A GPU enqueues this behind the
   * operators; the caller does not wait.
   */
  default void release(Signal signal, long value) {
    signal.release(value);
  }

  /**
   * Makes operators called from now on wait for a signal.
   *
   * @param deadlineNanos {@link System#nanoTime} at which to give up
   * @return false if the deadline passed (known at once on the CPU; a GPU reports it at {@link
   *     #synchronize})
   */
  default boolean await(Signal signal, long value, long deadlineNanos) {
    return signal.await(value, deadlineNanos);
  }

  /** Waits until everything called so far is done. */
  void synchronize();

  @Override
  void close();
}
