package io.infinilora.engine;

import io.infinilora.adapter.AdapterGroups;
import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.RowGroups;
import io.infinilora.core.AdapterId;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.model.LoraPort;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.AttachBase;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraLayerRequest;
import io.infinilora.wire.LoraStep;
import io.vertx.core.Future;
import io.vertx.core.eventbus.DeliveryOptions;
import io.vertx.core.eventbus.EventBus;
import java.time.Duration;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * Mode {@code disaggregated}: a LoRA Server computes the deltas. When a step is announced, one
 * request per layer goes onto the event bus, one-way; from then on both sides meet only in the
 * shared memory of a {@link LoraExchange}.
 */
public final class DisaggregatedLora implements LoraRuntime {
  private static final Duration ATTACH_TIMEOUT = Duration.ofSeconds(10);

  private final EventBus bus;
  private final LoraExchange exchange;
  private final int layers;
  private final Map<String, AdapterListing.Entry> byName = new LinkedHashMap<>();
  private final Map<Integer, Set<LoraTarget>> targetsOfSlot = new LinkedHashMap<>();
  private final List<AdapterId> ids;
  private long nextStep;

  private DisaggregatedLora(
      EventBus bus, LoraExchange exchange, ModelSpec spec, AdapterListing listing) {
    this.bus = bus;
    this.exchange = exchange;
    this.layers = spec.layers();
    for (AdapterListing.Entry entry : listing.adapters()) {
      byName.put(entry.id().name(), entry);
      targetsOfSlot.put(entry.slot(), entry.targets());
    }
    ids = listing.adapters().stream().map(AdapterListing.Entry::id).toList();
  }

  /**
   * Attaches to the LoRA Server of this JVM.
   *
   * @param base name of the base-model instance
   * @param rows most rows of a step
   * @return fails if no server answers
   */
  public static Future<LoraRuntime> attach(
      EventBus bus, String base, Backend backend, ModelSpec spec, int rows) {
    LoraExchange exchange = new LoraExchange(backend, spec, rows);
    return bus.<AdapterListing>request(
            LoraAddresses.ATTACH,
            new AttachBase(base),
            new DeliveryOptions().setSendTimeout(ATTACH_TIMEOUT.toMillis()).setLocalOnly(true))
        .map(reply -> new DisaggregatedLora(bus, exchange, spec, reply.body()));
  }

  @Override
  public Optional<Adapter> find(String name) {
    return Optional.ofNullable(byName.get(name)).map(e -> new Adapter(e.id(), e.slot()));
  }

  @Override
  public List<AdapterId> adapters() {
    return ids;
  }

  @Override
  public Step announce(int[] slotOfRow, long deadlineNanos) {
    AdapterGroups groups = AdapterGroups.of(slotOfRow);
    if (groups.isEmpty()) {
      return Step.NONE;
    }
    int[] rows = groups.groups().rows();
    // The exchange holds the rows in the order of the groups, so that group g is rows starts[g] ..
    // starts[g+1]-1.
    RowGroups compact = new RowGroups(identity(rows.length), groups.groups().starts());
    Set<LoraTarget> targets = EnumSet.noneOf(LoraTarget.class);
    Arrays.stream(groups.slots()).forEach(slot -> targets.addAll(targetsOfSlot.get(slot)));
    LoraStep step =
        LoraStep.of(nextStep++, exchange, compact, groups.slots(), targets, deadlineNanos);
    for (int layer = 0; layer < layers; layer++) {
      bus.send(LoraAddresses.REQUESTS, new LoraLayerRequest(step, layer));
    }
    return new AnnouncedStep(step, rows);
  }

  private static int[] identity(int n) {
    int[] rows = new int[n];
    Arrays.setAll(rows, i -> i);
    return rows;
  }

  private record AnnouncedStep(LoraStep step, int[] rows) implements Step {
    @Override
    public LoraPort port(OpStream ops) {
      return new ExchangePort(step, rows, ops);
    }

    @Override
    public void abandon() {
      step.exchange().abandon(step.id());
    }
  }
}
