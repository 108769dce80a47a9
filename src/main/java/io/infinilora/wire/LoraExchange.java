package io.infinilora.wire;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Signal;
import io.infinilora.backend.Tensor;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import java.util.EnumMap;
import java.util.Map;

/**
 * The memory that one base-model instance shares with the LoRA Server: per site the rows'
 * activations, per target their deltas, and two signals that order both sides. Rows are compact:
 * only those that use an adapter.
 *
 * <p>Values of both signals count sites: see {@link #value}. The base writes activations and
 * releases {@link #published}; the server waits for it, writes deltas and releases {@link
 * #computed}; the base waits for that before it reads them and before it overwrites the site's
 * activations in the next layer. So one buffer per site is enough.
 */
public final class LoraExchange {
  private final ModelSpec spec;
  private final Map<LoraSite, Tensor> activations = new EnumMap<>(LoraSite.class);
  private final Map<LoraTarget, Tensor> deltas = new EnumMap<>(LoraTarget.class);
  private final Routing routing;
  private final Signal published;
  private final Signal computed;
  private volatile Failure failure;

  /** A step that the server could not compute. */
  private record Failure(long step, Throwable cause) {}

  /** Allocates for steps of at most {@code rows} rows with an adapter. */
  public LoraExchange(Backend backend, ModelSpec spec, int rows) {
    this.spec = spec;
    for (LoraSite site : LoraSite.all()) {
      activations.put(site, backend.tensor(rows * spec.inRows(site), spec.inWidth(site)));
      for (LoraTarget target : site.targets()) {
        deltas.put(target, backend.tensor(rows * spec.outRows(target), spec.outWidth(target)));
      }
    }
    ModelSpec.Moe moe = spec.mlp().moe();
    routing = moe == null ? null : backend.routing(rows, moe.topK(), moe.experts());
    published = backend.signal();
    computed = backend.signal();
  }

  /** The model. */
  public ModelSpec spec() {
    return spec;
  }

  /** Most rows of a step. */
  public int capacity() {
    return activations.get(LoraSite.ATTENTION_IN).rows();
  }

  /**
   * Activations of a site for {@code rows} rows of a step: {@code [rows, in]}, or {@code [rows *
   * topK, in]} at {@code MLP_OUT} of a model with experts. Written by the base.
   */
  public Tensor activations(LoraSite site, int rows) {
    return activations.get(site).first(rows * spec.inRows(site));
  }

  /**
   * Deltas of a target for {@code rows} rows of a step: {@code [rows, out]}, or {@code [rows *
   * topK, out]} for gate and up of a model with experts. Written by the server.
   */
  public Tensor delta(LoraTarget target, int rows) {
    return deltas.get(target).first(rows * spec.outRows(target));
  }

  /**
   * Chosen experts of {@code rows} rows; written by the base together with the activations of the
   * first routed site of a layer.
   */
  public Routing routing(int rows) {
    return routing.first(rows);
  }

  /** Released by the base when a site's activations are complete. */
  public Signal published() {
    return published;
  }

  /** Released by the server when a site's deltas are complete. */
  public Signal computed() {
    return computed;
  }

  /**
   * Signal value of a site: greater than those of all sites before it, in this step and in earlier
   * ones.
   */
  public long value(long step, int layer, LoraSite site) {
    return (step * spec.layers() + layer) * LoraSite.all().size() + site.ordinal() + 1;
  }

  /**
   * Signal value of a step's last site; releasing it lets the other side run to the end of the
   * step.
   */
  public long lastValue(long step) {
    return (step + 1) * spec.layers() * LoraSite.all().size();
  }

  /** Server: gives up a step and lets the base see why. */
  public void fail(long step, Throwable cause) {
    failure = new Failure(step, cause);
    raise(computed, lastValue(step));
  }

  /**
   * Base: gives up a step, so that the server does not wait for activations that will never come.
   */
  public void abandon(long step) {
    raise(published, lastValue(step));
  }

  /** Why the server gave up this step, or null. */
  public Throwable failureOf(long step) {
    Failure f = failure;
    return f != null && f.step() == step ? f.cause() : null;
  }

  private static void raise(Signal signal, long value) {
    if (signal.value() < value) {
      signal.release(value);
    }
  }
}
