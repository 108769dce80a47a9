package io.infinilora.wire;

import io.vertx.core.buffer.Buffer;

/**
 * Passes an immutable message by reference between verticles of one JVM. It carries memory handles,
 * so it can't leave: between processes rows travel in frames instead.
 *
 * @param <T> message type
 */
final class LocalCodec<T> extends RecordCodec<T> {
  LocalCodec(Class<T> type) {
    super("local", type);
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
