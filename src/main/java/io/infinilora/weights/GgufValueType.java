package io.infinilora.weights;

import java.util.Arrays;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;

/** The types of GGUF metadata values. */
enum GgufValueType {
  UINT8(0, 1),
  INT8(1, 1),
  UINT16(2, 2),
  INT16(3, 2),
  UINT32(4, 4),
  INT32(5, 4),
  FLOAT32(6, 4),
  BOOL(7, 1),
  STRING(8, 8),
  ARRAY(9, 12),
  UINT64(10, 8),
  INT64(11, 8),
  FLOAT64(12, 8);

  private static final Map<Integer, GgufValueType> BY_ID =
      Arrays.stream(values()).collect(Collectors.toUnmodifiableMap(t -> t.id, t -> t));

  private final int id;
  private final int minBytes;

  GgufValueType(int id, int minBytes) {
    this.id = id;
    this.minBytes = minBytes;
  }

  /** The number that stands for this type in a file. */
  int id() {
    return id;
  }

  /** The least that a value takes in the file. */
  int minBytes() {
    return minBytes;
  }

  static Optional<GgufValueType> byId(int id) {
    return Optional.ofNullable(BY_ID.get(id));
  }
}
