package io.infinilora.wire;

import io.infinilora.core.AdapterStatus;
import io.infinilora.core.LoadedAdapter;
import io.vertx.core.eventbus.EventBus;
import io.vertx.core.eventbus.MessageCodec;
import java.util.ArrayList;
import java.util.List;

/** The codecs of all messages of this package. */
public final class WireCodecs {
  private WireCodecs() {}

  /** Registers them. Call once per event bus. */
  public static void registerAll(EventBus bus) {
    register(bus, LoraLayerRequest.class, new LocalCodec<>(LoraLayerRequest.class));
    controlMessages().forEach(type -> registerControl(bus, type));
  }

  /** Messages that may travel between processes. */
  static List<Class<?>> controlMessages() {
    List<Class<?>> types =
        new ArrayList<>(
            List.of(
                LeaseRequest.class,
                LeaseGrant.class,
                LeaseRelease.class,
                LeaseRenewal.class,
                BaseEnded.class,
                LeaseRevocation.class,
                ShardNotice.class,
                ShardHang.class,
                CoordinatorNotice.class,
                AdapterChange.class,
                AdapterListing.class,
                AdapterStatus.class,
                LoadedAdapter.class,
                BaseNotice.class));
    for (Class<?> family :
        List.of(ShardCall.class, AdapterCall.class, BaseCall.class, StreamMessage.class)) {
      types.addAll(List.of(family.getPermittedSubclasses()));
    }
    return types;
  }

  private static <T> void registerControl(EventBus bus, Class<T> type) {
    register(bus, type, new JsonCodec<>(type));
  }

  private static <T> void register(EventBus bus, Class<T> type, MessageCodec<T, T> codec) {
    bus.registerDefaultCodec(type, codec);
  }
}
