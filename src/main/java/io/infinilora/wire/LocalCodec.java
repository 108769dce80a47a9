package io.infinilora.wire;

import io.vertx.core.buffer.Buffer;
import io.vertx.core.eventbus.MessageCodec;

/**
 * Passes an immutable message by reference between verticles of one JVM. It carries memory handles,
 * so it can't leave: between processes rows travel in frames instead.
 *
 * @param <T> message type
 */
final class LocalCodec<T> implements MessageCodec<T, T> {
  private final Class<T> type;

  LocalCodec(Class<T> type) {
    this.type = type;
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
