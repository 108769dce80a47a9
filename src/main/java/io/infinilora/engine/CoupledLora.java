package io.infinilora.engine;

import io.infinilora.adapter.AdapterGroups;
import io.infinilora.adapter.AdapterInfo;
import io.infinilora.adapter.AdapterStore;
import io.infinilora.adapter.LoraExecutor;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.AdapterId;
import io.infinilora.core.LoraSite;
import io.infinilora.model.LoraPort;
import java.util.List;
import java.util.Optional;

/**
 * Mode {@code coupled}: deltas on the base model's own stream, right after each base projection.
 */
public final class CoupledLora implements LoraRuntime {
  private final AdapterStore store;
  private final LoraExecutor executor;

  /** Coupled execution of the adapters of {@code store}. */
  public CoupledLora(AdapterStore store) {
    this.store = store;
    this.executor = new LoraExecutor(store);
  }

  @Override
  public Optional<Adapter> find(String name) {
    return store.find(name).map(a -> new Adapter(a.id(), a.slot()));
  }

  @Override
  public List<AdapterId> adapters() {
    return store.list().stream().map(AdapterInfo::id).toList();
  }

  @Override
  public Step announce(int[] slotOfRow, long deadlineNanos) {
    AdapterGroups groups = AdapterGroups.of(slotOfRow);
    return groups.isEmpty() ? Step.NONE : ops -> new Port(groups, ops);
  }

  private final class Port implements LoraPort {
    private final AdapterGroups groups;
    private final OpStream ops;

    Port(AdapterGroups groups, OpStream ops) {
      this.groups = groups;
      this.ops = ops;
    }

    @Override
    public void publish(int layer, LoraSite site, Tensor x) {}

    @Override
    public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {
      executor.add(groups, layer, site, x, ops, outs);
    }

    @Override
    public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {}

    @Override
    public void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {
      executor.addRouted(groups, layer, site, x, routing, ops, outs);
    }
  }
}
