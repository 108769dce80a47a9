package io.infinilora.wire;

import com.fasterxml.jackson.annotation.JsonAutoDetect.Visibility;
import com.fasterxml.jackson.annotation.PropertyAccessor;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.datatype.jdk8.Jdk8Module;
import io.vertx.core.buffer.Buffer;
import java.io.IOException;
import java.io.UncheckedIOException;

/**
 * A control message: passed by reference within a JVM, as JSON between processes. Fields that a
 * process does not know are passed over, so that neighbouring versions understand each other.
 *
 * @param <T> record type
 */
final class JsonCodec<T> extends RecordCodec<T> {
  private static final ObjectMapper MAPPER =
      JsonMapper.builder()
          .addModule(new Jdk8Module())
          // Components only: methods such as isGreedy() are no part of a record.
          .visibility(PropertyAccessor.ALL, Visibility.NONE)
          .visibility(PropertyAccessor.FIELD, Visibility.ANY)
          .visibility(PropertyAccessor.CREATOR, Visibility.ANY)
          .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
          .build();

  JsonCodec(Class<T> type) {
    super("json", type);
  }

  @Override
  public void encodeToWire(Buffer buffer, T message) {
    try {
      byte[] json = MAPPER.writeValueAsBytes(message);
      buffer.appendInt(json.length).appendBytes(json);
    } catch (IOException e) {
      throw new UncheckedIOException(type.getSimpleName() + " cannot be sent", e);
    }
  }

  @Override
  public T decodeFromWire(int position, Buffer buffer) {
    int length = buffer.getInt(position);
    try {
      return MAPPER.readValue(
          buffer.getBytes(position + Integer.BYTES, position + Integer.BYTES + length), type);
    } catch (IOException e) {
      throw new UncheckedIOException(
          "a %s of another process cannot be read".formatted(type.getSimpleName()), e);
    }
  }
}
