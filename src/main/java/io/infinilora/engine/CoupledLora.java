package io.infinilora.engine;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.adapter.AdapterCache;
import io.infinilora.adapter.AdapterGroups;
import io.infinilora.adapter.AdapterTiers;
import io.infinilora.adapter.ClaimListener;
import io.infinilora.adapter.LayerClock;
import io.infinilora.adapter.LoraExecutor;
import io.infinilora.adapter.ResidentAdapter;
import io.infinilora.adapter.SourceResolver;
import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.Tensor;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.core.LoraSite;
import io.infinilora.core.ModelSpec;
import io.infinilora.metrics.LoraMetrics;
import io.infinilora.model.LoraPort;
import io.infinilora.wire.AdapterIndex;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.WorkerExecutor;
import java.nio.IntBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Mode {@code coupled}: deltas on the base model's own stream, right after each base projection.
 * Tiers, cache and kernels are those of the LoRA Server, so that the two differ only in where LoRA
 * runs.
 */
public final class CoupledLora implements LoraRuntime {
  /** How often claims that wait for memory are looked at. */
  private static final long TICK_MILLIS = 500;

  /** Adapters that are read, or downloaded, at the same time. */
  private static final int READERS = 4;

  private final AdapterTiers tiers;
  private final LayerClock clock;
  private final AdapterIndex index = new AdapterIndex();
  private final WorkerExecutor reader;
  private final AdapterAdmin admin;
  private long steps;

  private CoupledLora(AdapterTiers tiers, LayerClock clock, Vertx vertx, Executor loop) {
    this.tiers = tiers;
    this.clock = clock;
    reader = vertx.createSharedWorkerExecutor("adapter-reader", READERS, 1, TimeUnit.DAYS);
    admin = new LocalAdapterAdmin(tiers, loop, index, reader);
    vertx.setPeriodic(TICK_MILLIS, t -> tiers.tick(System.nanoTime()));
  }

  /** An attachment that takes every source for a directory and is not measured. */
  public static LoraAttachment attachment(
      String name, ModelSpec spec, Backend backend, AdapterBudgets budgets) {
    return attachment(name, spec, backend, budgets, SourceResolver.DIRECTORIES, LoraMetrics.NONE);
  }

  /** An attachment with adapter memory of its own. */
  public static LoraAttachment attachment(
      String name,
      ModelSpec spec,
      Backend backend,
      AdapterBudgets budgets,
      SourceResolver sources,
      LoraMetrics metrics) {
    return (vertx, loop, driver) ->
        attach(name, spec, backend, budgets, sources, vertx, loop, driver)
            .onSuccess(lora -> metrics.watchMemory(LoraShard.WHOLE.toString(), lora.tiers::stats))
            .map(lora -> lora);
  }

  private static Future<CoupledLora> attach(
      String name,
      ModelSpec spec,
      Backend backend,
      AdapterBudgets budgets,
      SourceResolver sources,
      Vertx vertx,
      Executor loop,
      Consumer<Runnable> driver) {
    LayerClock clock = new LayerClock();
    return vertx
        .executeBlocking(
            () ->
                new AdapterTiers(
                    name + "-loader",
                    spec,
                    LoraShard.WHOLE,
                    backend,
                    budgets,
                    sources,
                    loop,
                    driver,
                    clock::nanos))
        .map(tiers -> new CoupledLora(tiers, clock, vertx, loop));
  }

  @Override
  public Optional<AdapterId> find(String name) {
    return index.find(name);
  }

  @Override
  public List<AdapterId> adapters() {
    return index.list();
  }

  @Override
  public AdapterAdmin admin() {
    return admin;
  }

  @Override
  public Lease lease(AdapterId adapter, long deadlineNanos, LeaseListener listener) {
    CoupledLease lease = new CoupledLease(listener);
    lease.claim = tiers.claim(adapter, System.nanoTime(), deadlineNanos, lease);
    return lease;
  }

  @Override
  public Step announce(int[] slotOfRow, long deadlineNanos) {
    AdapterGroups groups = AdapterGroups.of(slotOfRow);
    if (groups.isEmpty()) {
      return Step.NONE;
    }
    ResidentAdapter[] adapters = tiers.residents().require(groups.slots());
    long step = steps++;
    return new CoupledStep(step, clock, adapters, groups.groups(), deadlineNanos);
  }

  /** A step whose low-rank products run on the base model's stream. */
  private record CoupledStep(
      long step, LayerClock clock, ResidentAdapter[] adapters, RowGroups groups, long deadlineNanos)
      implements Step {
    @Override
    public LoraPort port(OpStream ops) {
      return new Port(step, clock, new LoraExecutor(adapters, groups, ops, deadlineNanos));
    }

    /** While layers are loading, each is waited for where it is needed. */
    @Override
    public Object key() {
      return Arrays.stream(adapters).allMatch(ResidentAdapter::complete)
          ? new Key(
              List.of(adapters), IntBuffer.wrap(groups.rows()), IntBuffer.wrap(groups.starts()))
          : null;
    }

    /** Which rows use which adapters; buffers are equal if their contents are. */
    private record Key(List<ResidentAdapter> adapters, IntBuffer rows, IntBuffer starts) {}
  }

  @Override
  public void close() {
    reader.close();
    tiers.close();
  }

  private final class CoupledLease implements Lease, ClaimListener {
    private final LeaseListener listener;
    private AdapterCache.Claim claim;
    private int slot = AdapterGroups.NO_ADAPTER;

    CoupledLease(LeaseListener listener) {
      this.listener = listener;
    }

    @Override
    public void admissible(ResidentAdapter adapter) {
      slot = adapter.slot();
      listener.granted();
    }

    @Override
    public void failed(InfiniLoraException cause) {
      listener.failed(cause);
    }

    @Override
    public void revoked() {
      listener.revoked();
    }

    @Override
    public int slot() {
      return slot;
    }

    @Override
    public void release() {
      tiers.release(claim);
    }
  }

  private record Port(long step, LayerClock clock, LoraExecutor executor) implements LoraPort {
    @Override
    public boolean reads(int layer, LoraSite site) {
      return executor.takesPart(layer, site);
    }

    @Override
    public void publish(int layer, LoraSite site, Tensor x) {
      if (site == LoraSite.ATTENTION_IN) {
        clock.layer(step, layer);
      }
    }

    @Override
    public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {
      executor.add(layer, site, x, outs);
    }

    @Override
    public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {}

    @Override
    public void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {
      executor.addRouted(layer, site, x, routing, false, outs);
    }
  }
}
