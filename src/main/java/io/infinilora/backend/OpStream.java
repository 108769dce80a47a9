package io.infinilora.backend;

import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec;
import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * Executes operators in the order of the calls, on behalf of one driver thread. Shapes are checked;
 * a mismatch throws {@link IllegalArgumentException} and changes nothing. Zero rows are allowed
 * everywhere and do nothing.
 *
 * <p>Results of a row do not depend on the other rows of the call: on the CPU bit for bit.
 */
public interface OpStream extends AutoCloseable {

  /**
   * Runs the operators of one step. A device may record them and, for later steps, replay the
   * recording instead of launching each, or run them several times.
   *
   * @param batch what the operators work on
   * @param key null if the operators are to run once. Otherwise they wait for nothing and depend on
   *     nothing but the batch and the key: for equal keys and batches of as many rows they are the
   *     same, on the same memory, but for the contents of the batch's arrays
   */
  default void step(BatchLayout batch, Object key, Runnable operators) {
    operators.run();
  }

  /** {@code out[i] = table[tokens[i]]}; {@code out} is {@code [tokens.length, hidden]}. */
  void embed(Embedding table, int[] tokens, Tensor out);

  /** {@code out[i] = x[i] / sqrt(mean(x[i]^2) + eps) * weight}; {@code out} may be {@code x}. */
  void rmsNorm(Tensor x, Vec weight, float eps, Tensor out);

  /**
   * {@code out[i] = (x[i] - mean(x[i])) / sqrt(var(x[i]) + eps) * weight}, with the biased
   * variance; {@code out} may be {@code x}.
   */
  void layerNorm(Tensor x, Vec weight, float eps, Tensor out);

  /**
   * The end of a block and the beginning of the next: {@code y += x}, then {@code out} is the norm
   * of y.
   *
   * @param y the residual stream
   * @param out not {@code x} nor {@code y}
   */
  default void addNorm(Tensor x, Tensor y, NormParams norm, Tensor out) {
    add(x, y);
    norm(y, norm, out);
  }

  /** {@link #rmsNorm} or {@link #layerNorm}. */
  default void norm(Tensor x, NormParams norm, Tensor out) {
    switch (norm.kind()) {
      case RMS -> rmsNorm(x, norm.weight(), norm.eps(), out);
      case LAYER -> layerNorm(x, norm.weight(), norm.eps(), out);
    }
  }

  /** Bounds every element to {@code -bound .. bound}, in place. */
  void clamp(Tensor x, float bound);

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
   * What lies between the projections and attention: {@link #clamp} of q, k and v, {@link
   * #rmsNormHeads} of q and k, {@link #ropeAndStore}.
   */
  default void prepareAttention(
      BatchLayout batch,
      AttentionPreparation preparation,
      Tensor q,
      Tensor k,
      Tensor v,
      KvCache cache,
      int layer) {
    float bound = preparation.bound();
    if (bound > 0) {
      clamp(q, bound);
      clamp(k, bound);
      clamp(v, bound);
    }
    if (preparation.qNorm() != null) {
      rmsNormHeads(q, preparation.qNorm(), preparation.eps());
      rmsNormHeads(k, preparation.kNorm(), preparation.eps());
    }
    ropeAndStore(batch, preparation.rope(), q, k, v, cache, layer);
  }

  /**
   * Causal attention of each row over its sequence's cached keys and values, its own position
   * included.
   *
   * @param q {@code [rows, heads * headDim]}, rotated
   * @param out like q
   */
  void attention(
      BatchLayout batch, Tensor q, KvCache cache, int layer, AttentionParams params, Tensor out);

  /**
   * {@link #prepareAttention}, then {@link #attention}: all that lies between a layer's two
   * projections. Sequences may share blocks, but none in which a row of the batch is stored: it
   * need not be there when others read the block.
   *
   * @param q {@code [rows, heads * headDim]}; what q, k and v hold afterwards is not defined
   * @param out like q
   */
  default void attend(
      BatchLayout batch,
      AttentionPreparation preparation,
      Tensor q,
      Tensor k,
      Tensor v,
      KvCache cache,
      int layer,
      AttentionParams params,
      Tensor out) {
    prepareAttention(batch, preparation, q, k, v, cache, layer);
    attention(batch, q, cache, layer, params, out);
  }

  /**
   * Chooses experts. With {@link ModelSpec.Moe#softmaxFirst} the weights are a softmax over all
   * experts, of which the {@code topK} largest are kept and, if {@link ModelSpec.Moe#normalise},
   * divided by their sum; otherwise a softmax over the {@code topK} largest logits. Choices are in
   * descending order of their logits; of equal logits the lower expert comes first.
   *
   * @param logits {@code [rows, experts]}, the router's output
   * @param out routing of {@code rows} rows
   */
  void route(Tensor logits, ModelSpec.Moe moe, Routing out);

  /**
   * Chooses experts by the router itself: {@link #project}, then {@link #route(Tensor,
   * ModelSpec.Moe, Routing)}.
   *
   * @param x {@code [rows, in]}
   * @param logits {@code [rows, experts]} of room; what it holds afterwards is not defined
   * @param out routing of {@code rows} rows
   */
  default void route(Router router, Tensor x, Tensor logits, Routing out) {
    project(router.projection(), x, logits);
    route(logits, router.moe(), out);
  }

  /**
   * The beginning of a block of experts: {@link #addNorm}, then {@link #route(Router, Tensor,
   * Tensor, Routing)} of its result.
   *
   * @param x what is added to y
   * @param y the residual stream
   * @param out the norm of y, {@code [rows, in]}; not {@code x} nor {@code y}
   * @param logits {@code [rows, experts]} of room; what it holds afterwards is not defined
   * @param routing of {@code rows} rows
   */
  default void addNormRoute(
      Tensor x,
      Tensor y,
      NormParams norm,
      Tensor out,
      Router router,
      Tensor logits,
      Routing routing) {
    addNorm(x, y, norm, out);
    route(router, out, logits, routing);
  }

  /** {@code out[i] = from[rows[i]]}. */
  void gatherRouting(Routing from, int[] rows, Routing out);

  /**
   * {@code outs[t][i * topK + j] = x[i] W_{t,e}^T + b_{t,e}}, e being choice j of row i: routed
   * rows lie in the order of rows, then choices.
   *
   * @param x {@code [rows, in]}
   * @param outs {@code [rows * topK, out_t]} each
   */
  void expertProject(ExpertProjection weights, Routing routing, Tensor x, Tensor... outs);

  /**
   * {@code out[i] = sum_j w_j (x[i * topK + j] W_e^T + b_e)}, e and w_j being choice j of row i and
   * its weight, summed in the order of the choices.
   *
   * @param weights experts with one output
   * @param x {@code [rows * topK, in]}
   * @param out {@code [rows, out]}
   */
  void expertCombine(ExpertProjection weights, Routing routing, Tensor x, Tensor out);

  /**
   * The second half of routed experts: {@link #gatedActivation}, then {@link
   * #expertCombine(ExpertProjection, Routing, Tensor, Tensor)} of what it gives.
   *
   * @param gate {@code [rows * topK, in]}; what it holds afterwards is not defined
   * @param up like {@code gate}
   */
  default void expertCombine(
      Activation activation,
      ExpertProjection weights,
      Routing routing,
      Tensor gate,
      Tensor up,
      Tensor out) {
    gatedActivation(activation, gate, up, gate);
    expertCombine(weights, routing, gate, out);
  }

  /**
   * The end of a block of experts and the beginning of the next: {@link #expertCombine(Activation,
   * ExpertProjection, Routing, Tensor, Tensor, Tensor)}, then {@link #addNorm} of its result.
   *
   * @param gate {@code [rows * topK, in]}; what it holds afterwards is not defined
   * @param up like {@code gate}
   * @param experts with one output
   * @param sum {@code [rows, out]} of room; what it holds afterwards is not defined
   * @param y the residual stream
   * @param out the norm of y; not {@code sum} nor {@code y}
   */
  default void expertCombineAddNorm(
      Activation activation,
      Tensor gate,
      Tensor up,
      ExpertProjection experts,
      Routing routing,
      Tensor sum,
      Tensor y,
      NormParams norm,
      Tensor out) {
    expertCombine(activation, experts, routing, gate, up, sum);
    addNorm(sum, y, norm, out);
  }

  /** {@code out[i] = x[rows[i]]}. */
  void gather(Tensor x, int[] rows, Tensor out);

  /** {@code y[rows[i]] += x[i]}; {@code rows} are distinct. */
  void scatterAdd(Tensor x, int[] rows, Tensor y);

  /**
   * Packs chosen rows for another process and waits until they are there: {@code out[i] =
   * x[rows[i]]} as bf16, little endian, rounded to nearest, ties to even; a NaN stays one.
   *
   * @param out native memory of at least {@code rows.length * cols * 2} bytes, of any alignment
   */
  void packRows(Tensor x, int[] rows, MemorySegment out);

  /** {@code out[i] = x[i]} for all rows of {@code out}, x as {@link #packRows} wrote it. */
  void unpackRows(MemorySegment x, Tensor out);

  /**
   * {@code y[rows[i]] += x[i]}, x as {@link #packRows} wrote it; {@code rows} are distinct. When it
   * returns, {@code x} may be given back.
   */
  void addRows(MemorySegment x, int[] rows, Tensor y);

  /**
   * Packs the routing of chosen rows: {@code rows.length * topK} experts as int32, then as many
   * weights as float32, little endian.
   *
   * @param out native memory of at least {@code rows.length * topK * 8} bytes, of any alignment
   */
  void packRouting(Routing from, int[] rows, MemorySegment out);

  /**
   * Reads what {@link #packRouting} wrote, for all rows of {@code out}.
   *
   * @throws IllegalArgumentException also if an expert does not exist
   */
  void unpackRouting(MemorySegment from, Routing out);

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
   * Low-rank products of routed layers: like {@link #loraAdd}, but for each row r of a group and
   * each choice j of r, being expert e, {@code outs[t][r * topK + j] += scale B_{t,e} (A_{t,e}
   * x[r])} where the adapter has that expert and target.
   *
   * @param groups of the rows of {@code x} and {@code routing}
   * @param weights one per group; null for a group without weights at this site
   * @param x {@code [rows, in]}
   * @param outs one per target, {@code [rows * topK, out_t]}; entries may be null where no group
   *     has the target
   */
  void expertLoraAdd(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor... outs);

  /**
   * The weighted sum of routed low-rank products: {@code out[r] += sum_j w_j scale B_e (A_e x[r *
   * topK + j])} over those choices j of r whose expert e the adapter has. The sum over j, in the
   * order of the choices, is complete before it is added.
   *
   * @param groups of the rows of {@code out} and {@code routing}
   * @param weights one per group, for a site with one target; null for a group without weights
   * @param x {@code [rows * topK, in]}
   * @param out {@code [rows, out]}
   */
  void expertLoraCombine(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor out);

  /**
   * The terms of {@link #expertLoraCombine}, not summed: {@code out[r * topK + j] += w_j scale B_e
   * (A_e x[r * topK + j])} for those choices j of r whose expert e the adapter has. For a server
   * that holds a part of the experts: whoever has all terms sums them in the order of the choices,
   * so that the result is the same as from one that holds all.
   *
   * @param out {@code [rows * topK, out]}
   */
  void expertLoraTerms(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor out);

  /**
   * {@code y[rows[i]] += x[i * terms] + x[i * terms + 1] + ... + x[i * terms + terms - 1]}, summed
   * in this order before it is added; {@code rows} are distinct.
   *
   * @param x {@code [rows.length * terms, cols]}
   */
  void scatterAddTerms(Tensor x, int terms, int[] rows, Tensor y);

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
   * @throws io.infinilora.core.InfiniLoraException if the device is lost meanwhile
   */
  default boolean await(Signal signal, long value, long deadlineNanos) {
    return signal.await(value, deadlineNanos);
  }

  /** Waits until everything called so far is done. */
  void synchronize();

  @Override
  void close();
}
