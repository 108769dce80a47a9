package io.infinilora.wire;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Signal;
import io.infinilora.backend.Tensor;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import java.util.EnumMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;

/**
 * The memory that one base-model instance shares with the LoRA Server: per site the rows'
 * activations, per target their deltas, and two signals that order both sides. Rows are compact:
 * only those that use an adapter.
 *
 * <p>Values of both signals count sites: see {@link #value}. The base writes activations and
 * releases {@link #published}; the server waits for it, writes deltas and releases {@link
 * #computed}; the base waits for that before it reads them and before it overwrites the site's
 * activations in the next layer. So one buffer per site is enough.
 *
 * <p>A step that is given up closes the exchange, since its server may be computing yet, may hang,
 * or may have been replaced. The server touches memory and signals between {@link #enter} and
 * {@link #leave} only, and cannot enter a closed exchange. So if nobody is inside when it is
 * closed, nothing late can come, and the memory may be {@linkplain #reopened used again} at once;
 * otherwise when the server has left, if ever.
 */
public final class LoraExchange {
  // States of the gate: who is inside, and whether anybody may still come in.
  private static final int FREE = 0;
  private static final int INSIDE = 1;
  private static final int CLOSED = 2;
  private static final int CLOSED_INSIDE = 3;

  private final ModelSpec spec;
  private final LoraShard shard;
  private final Map<LoraSite, Tensor> activations;
  private final Map<LoraTarget, Tensor> deltas;
  private final Routing routing;
  private final Signal published;
  private final Signal computed;
  private final LoraCourier courier;
  private final AtomicInteger gate = new AtomicInteger(FREE);
  private final AtomicReference<InfiniLoraException> closedBy = new AtomicReference<>();
  private volatile Failure failure;

  /** A step that the server could not compute. */
  private record Failure(long step, Throwable cause) {}

  /** Allocates for steps of at most {@code rows} rows with an adapter, at one shard. */
  public LoraExchange(Backend backend, ModelSpec spec, LoraShard shard, int rows) {
    this.spec = spec;
    this.shard = shard;
    activations = new EnumMap<>(LoraSite.class);
    deltas = new EnumMap<>(LoraTarget.class);
    for (LoraSite site : LoraSite.all()) {
      activations.put(site, backend.tensor(rows * spec.inRows(site), spec.inWidth(site)));
      for (LoraTarget target : site.targets()) {
        deltas.put(target, backend.tensor(rows * outRows(target), spec.outWidth(target)));
      }
    }
    ModelSpec.Moe moe = spec.mlp().moe();
    routing = moe == null ? null : backend.routing(rows, moe.topK(), moe.experts());
    published = backend.signal();
    computed = backend.signal();
    courier = LoraCourier.NONE;
  }

  private LoraExchange(
      LoraExchange before, Signal published, Signal computed, LoraCourier courier) {
    spec = before.spec;
    shard = before.shard;
    activations = before.activations;
    deltas = before.deltas;
    routing = before.routing;
    this.published = published;
    this.computed = computed;
    this.courier = courier;
  }

  /**
   * An open exchange in the memory of this one. Step numbers must go on.
   *
   * @throws IllegalStateException if this one is not {@linkplain #isQuiet quiet}
   */
  public LoraExchange reopened() {
    requireQuiet();
    return new LoraExchange(this, published, computed, courier);
  }

  /**
   * The same for a base model in another process, whose step numbers need not go on.
   *
   * @throws IllegalStateException if this one is not {@linkplain #isQuiet quiet}
   */
  public LoraExchange lent(Backend backend, LoraCourier to) {
    requireQuiet();
    return new LoraExchange(this, backend.signal(), backend.signal(), to);
  }

  private void requireQuiet() {
    if (!isQuiet()) {
      throw new IllegalStateException("the server may still write to this exchange");
    }
  }

  /** Connects the exchange with a base model that does not share its memory. */
  public LoraCourier courier() {
    return courier;
  }

  /**
   * Server: begins to use memory and signals.
   *
   * @return false if the exchange is closed and must not be touched
   */
  public boolean enter() {
    return gate.compareAndSet(FREE, INSIDE);
  }

  /** Server: ends what {@link #enter} began; nothing it started may still be running. */
  public void leave() {
    gate.updateAndGet(state -> state == INSIDE ? FREE : CLOSED);
  }

  /**
   * Base: gives up the step in flight, if any, and this exchange with it. Any thread.
   *
   * @param cause what the base's waits fail with; ignored if it is closed already
   */
  public void close(InfiniLoraException cause) {
    closedBy.compareAndSet(null, cause);
    gate.updateAndGet(state -> state == FREE || state == CLOSED ? CLOSED : CLOSED_INSIDE);
  }

  /** Whether the server may use it. */
  public boolean isOpen() {
    return closedBy.get() == null;
  }

  /** Whether it is closed and the server will not touch it any more. */
  public boolean isQuiet() {
    return gate.get() == CLOSED;
  }

  /** Why it was closed, or null. */
  public InfiniLoraException closedBy() {
    return closedBy.get();
  }

  /** The model. */
  public ModelSpec spec() {
    return spec;
  }

  /** The shard that computes. */
  public LoraShard shard() {
    return shard;
  }

  /** Whether the shard takes part in a site of a layer. */
  public boolean holds(int layer, LoraSite site) {
    return shard.holds(spec, layer, site);
  }

  /**
   * Whether the shard answers {@code down} of a model with experts by the terms of its weighted
   * sum, because other shards have the rest of them.
   */
  public boolean terms() {
    return terms(spec, shard);
  }

  /** Whether a shard answers {@code down} by terms. */
  public static boolean terms(ModelSpec spec, LoraShard shard) {
    return spec.mlp().moe() != null && shard.expertShards() > 1;
  }

  /** Rows of a target's delta per row of a step. */
  public int outRows(LoraTarget target) {
    return outRows(spec, shard, target);
  }

  /** Rows of a target's delta per row of a step, as a shard answers. */
  public static int outRows(ModelSpec spec, LoraShard shard, LoraTarget target) {
    return target.site() == LoraSite.MLP_OUT && terms(spec, shard)
        ? spec.mlp().moe().topK()
        : spec.outRows(target);
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
   * Deltas of a target for {@code rows} rows of a step: {@code [rows * outRows, out]}. Written by
   * the server.
   */
  public Tensor delta(LoraTarget target, int rows) {
    return deltas.get(target).first(rows * outRows(target));
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
    return value(spec, step, layer, site);
  }

  /** Signal value of a site of a model. */
  public static long value(ModelSpec spec, long step, int layer, LoraSite site) {
    return (step * spec.layers() + layer) * LoraSite.all().size() + site.ordinal() + 1;
  }

  /**
   * Signal value of a step's last site; releasing it lets the other side run to the end of the
   * step.
   */
  public long lastValue(long step) {
    return lastValue(spec, step);
  }

  /** Signal value of the last site of a step of a model. */
  public static long lastValue(ModelSpec spec, long step) {
    return (step + 1) * spec.layers() * LoraSite.all().size();
  }

  /** Server, inside: gives up a step and lets the base see why. */
  public void fail(long step, Throwable cause) {
    failure = new Failure(step, cause);
    courier.failed(step, cause);
    long last = lastValue(step);
    if (computed.value() < last) {
      computed.release(last);
    }
  }

  /** Why the server gave up this step, or null. */
  public Throwable failureOf(long step) {
    Failure f = failure;
    return f != null && f.step() == step ? f.cause() : null;
  }
}
