package io.infinilora.wire;

import io.vertx.core.eventbus.MessageCodec;

/**
 * A codec of an immutable message, which passes by reference within a JVM.
 *
 * @param <T> record type
 */
abstract class RecordCodec<T> implements MessageCodec<T, T> {
  private final String kind;
  protected final Class<T> type;

  /** A codec whose name tells how messages travel between processes. */
  RecordCodec(String kind, Class<T> type) {
    this.kind = kind;
    this.type = type;
  }

  @Override
  public final T transform(T message) {
    return message;
  }

  @Override
  public final String name() {
    return kind + ":" + type.getName();
  }

  @Override
  public final byte systemCodecID() {
    return -1; // What Vert.x asks of user codecs.
  }
}
