package io.infinilora.wire;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.LoadedAdapter;
import io.smallrye.mutiny.Uni;
import io.vertx.core.eventbus.DeliveryOptions;
import io.vertx.core.eventbus.EventBus;
import io.vertx.core.eventbus.Message;
import java.time.Duration;
import java.util.List;

/** Reaches the coordinator of a LoRA Server over the event bus. */
public final class BusAdapterAdmin implements AdapterAdmin {
  private static final Duration TIMEOUT = Duration.ofMinutes(10);

  private final EventBus bus;

  /** An admin of the LoRA Server on this bus. */
  public BusAdapterAdmin(EventBus bus) {
    this.bus = bus;
  }

  @Override
  public Uni<LoadedAdapter> load(AdapterRegistration adapter) {
    return call(new AdapterCall.Load(adapter));
  }

  @Override
  public Uni<Void> unload(String name, WhenInUse whenInUse) {
    return call(new AdapterCall.Unload(name, whenInUse));
  }

  @Override
  public Uni<AdapterStatus> pin(String name, boolean pinned) {
    return call(new AdapterCall.Pin(name, pinned));
  }

  @Override
  public Uni<AdapterStatus> prefetch(String name) {
    return call(new AdapterCall.Prefetch(name));
  }

  @Override
  public Uni<List<AdapterStatus>> list() {
    return this.<AdapterListing>call(new AdapterCall.Places()).map(AdapterListing::adapters);
  }

  private <T> Uni<T> call(AdapterCall call) {
    return Uni.createFrom()
        .completionStage(
            () ->
                bus.<T>request(
                        LoraAddresses.ADMIN,
                        call,
                        new DeliveryOptions().setSendTimeout(TIMEOUT.toMillis()))
                    .map(Message::body)
                    .toCompletionStage())
        .onFailure()
        .transform(WireFailures::of);
  }
}
