package io.infinilora.wire;

import io.infinilora.core.AdapterStatus;
import io.infinilora.core.LoadedAdapter;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.eventbus.EventBus;
import io.vertx.core.eventbus.MessageCodec;
import java.util.List;

/**
 * Passes an immutable message by reference between verticles of one JVM. Messages that carry memory
 * handles can't leave it: between processes rows travel in frames instead.
 *
 * @param <T> message type
 */
public final class LocalCodec<T> implements MessageCodec<T, T> {
  private final Class<T> type;

  private LocalCodec(Class<T> type) {
    this.type = type;
  }

  /** Registers codecs for all messages of this package. Call once per event bus. */
  public static void registerAll(EventBus bus) {
    List<Class<?>> types =
        List.of(
            LoraLayerRequest.class,
            LeaseRequest.class,
            LeaseGrant.class,
            LeaseRelease.class,
            LeaseRenewal.class,
            BaseEnded.class,
            LeaseRevocation.class,
            ShardNotice.class,
            AdapterChange.class,
            AdapterListing.class,
            AdapterStatus.class,
            LoadedAdapter.class);
    types.forEach(type -> register(bus, type));
    for (Class<?> family : List.of(ShardCall.class, AdapterCall.class)) {
      for (Class<?> type : family.getPermittedSubclasses()) {
        register(bus, type);
      }
    }
  }

  private static <T> void register(EventBus bus, Class<T> type) {
    bus.registerDefaultCodec(type, new LocalCodec<>(type));
  }

  @Override
  public T transform(T message) {
    return message;
  }

  @Override
  public String name() {
    return "local:" + type.getName();
  }

  @Override
  public byte systemCodecID() {
    return -1; // What Vert.x asks of user codecs.
  }

  @Override
  public void encodeToWire(Buffer buffer, T message) {
    throw new IllegalStateException(
        type.getSimpleName() + " refers to shared memory and stays in its JVM");
  }

  @Override
  public T decodeFromWire(int position, Buffer buffer) {
    throw new IllegalStateException(
        type.getSimpleName() + " refers to shared memory and stays in its JVM");
  }
}
