package io.infinilora.weights;

import io.infinilora.core.InfiniLoraException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * Reads the header of a GGUF file from front to back. Every length and count is held against the
 * rest of the file before anything is allocated for it. Not thread-safe.
 */
final class GgufCursor {

  /**
   * Longest string that is read; chat templates, the longest ones, have some ten thousand bytes.
   */
  static final long MAX_STRING_BYTES = 16L << 20;

  /** Longest array that is read; merges, the longest ones, number less than a million. */
  static final long MAX_ARRAY_ITEMS = 16L << 20;

  /** Longest key or tensor name that is read. */
  static final long MAX_NAME_BYTES = 1024;

  private static final int MAX_NESTING = 4;
  private static final ByteOrder ORDER = ByteOrder.LITTLE_ENDIAN;
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ORDER);
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ORDER);
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ORDER);

  private final MappedFile file;
  private long position;
  private String reading = "the header";

  GgufCursor(MappedFile file) {
    this.file = file;
  }

  /** Says what is being read, for errors. */
  void reading(String what) {
    reading = what;
  }

  /** Offset of the next byte. */
  long position() {
    return position;
  }

  int int32() {
    return file.bytes().get(INT, take(4));
  }

  long int64() {
    return file.bytes().get(LONG, take(8));
  }

  /** A 64-bit count of things that take at least {@code minBytes} of the file each. */
  long count(String what, long minBytes) {
    long count = int64();
    if (count < 0 || count > remaining() / minBytes) {
      throw fault(
          "%s says %s %s, more than the rest of the file (%d bytes) can hold"
              .formatted(reading, Long.toUnsignedString(count), what, remaining()));
    }
    return count;
  }

  /** A metadata key or tensor name. */
  String name() {
    return string(MAX_NAME_BYTES);
  }

  /** A string: 64-bit length, then UTF-8. */
  private String string(long limit) {
    long length = count("bytes of text", 1);
    if (length > limit) {
      throw fault(
          "%s has a string of %d bytes, beyond the limit %d".formatted(reading, length, limit));
    }
    MemorySegment text = file.bytes().asSlice(take(length), length);
    return new String(text.toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
  }

  /**
   * A typed metadata value: Long for all integers, Double for both floats, Boolean, String, or a
   * List of these.
   */
  Object value() {
    return value(type(), 0);
  }

  private GgufValueType type() {
    int id = int32();
    return GgufValueType.byId(id)
        .orElseThrow(
            () ->
                fault(
                    "%s has the unknown metadata type %s"
                        .formatted(reading, Integer.toUnsignedString(id))));
  }

  private Object value(GgufValueType type, int depth) {
    return switch (type) {
      case UINT8 -> (long) (int8() & 0xff);
      case INT8 -> (long) int8();
      case UINT16 -> (long) (int16() & 0xffff);
      case INT16 -> (long) int16();
      case UINT32 -> Integer.toUnsignedLong(int32());
      case INT32 -> (long) int32();
      case FLOAT32 -> (double) Float.intBitsToFloat(int32());
      case BOOL -> bool();
      case STRING -> string(MAX_STRING_BYTES);
      case ARRAY -> array(depth + 1);
      case UINT64, INT64 -> int64();
      case FLOAT64 -> Double.longBitsToDouble(int64());
    };
  }

  private List<Object> array(int depth) {
    if (depth > MAX_NESTING) {
      throw fault(reading + " nests arrays deeper than " + MAX_NESTING);
    }
    GgufValueType type = type();
    long count = count("array items", type.minBytes());
    if (count > MAX_ARRAY_ITEMS) {
      throw fault(
          "%s has an array of %d items, beyond the limit %d"
              .formatted(reading, count, MAX_ARRAY_ITEMS));
    }
    List<Object> items = new ArrayList<>((int) count);
    for (long i = 0; i < count; i++) {
      items.add(value(type, depth));
    }
    return items;
  }

  private byte int8() {
    return file.bytes().get(ValueLayout.JAVA_BYTE, take(1));
  }

  private short int16() {
    return file.bytes().get(SHORT, take(2));
  }

  private boolean bool() {
    byte value = int8();
    if (value != 0 && value != 1) {
      throw fault(reading + " has a boolean of " + value);
    }
    return value == 1;
  }

  private long remaining() {
    return file.size() - position;
  }

  private long take(long bytes) {
    if (bytes > remaining()) {
      throw fault("truncated: the file ends within " + reading);
    }
    long at = position;
    position += bytes;
    return at;
  }

  private InfiniLoraException fault(String message) {
    return file.fault(message);
  }
}
