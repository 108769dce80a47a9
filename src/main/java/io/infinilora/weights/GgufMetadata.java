package io.infinilora.weights;

import io.infinilora.core.InfiniLoraException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.function.BiConsumer;

/** The key-value pairs of a GGUF file with typed access, whose errors name file and key. */
final class GgufMetadata {

  private final MappedFile file;
  private final Map<String, Object> values = new HashMap<>();
  private final Map<String, MemorySegment> raw = new LinkedHashMap<>();

  GgufMetadata(MappedFile file) {
    this.file = file;
  }

  /** Adds a pair; {@code bytes} are its type and value in the file. */
  void put(String key, Object value, MemorySegment bytes) {
    if (values.putIfAbsent(key, value) != null) {
      throw file.fault("metadata key " + key + " occurs twice");
    }
    raw.put(key, bytes);
  }

  /** Every key with its type and value as they lie in the file, in the file's order. */
  void forEachRaw(BiConsumer<String, MemorySegment> action) {
    raw.forEach(action);
  }

  boolean has(String key) {
    return values.containsKey(key);
  }

  /** An integer; a list of equal integers, one per layer, counts as one. */
  OptionalInt optionalInteger(String key) {
    Object value = values.get(key);
    if (value == null) {
      return OptionalInt.empty();
    }
    if (value instanceof List<?> list && !list.isEmpty()) {
      Object first = list.getFirst();
      if (!list.stream().allMatch(first::equals)) {
        throw bad(key, "differs between layers, which is not supported");
      }
      value = first;
    }
    if (value instanceof Long number && number == number.intValue()) {
      return OptionalInt.of(number.intValue());
    }
    throw bad(key, "is " + shown(value) + ", not a 32-bit integer");
  }

  int integer(String key) {
    return optionalInteger(key).orElseThrow(() -> bad(key, "is missing"));
  }

  int integer(String key, int absent) {
    return optionalInteger(key).orElse(absent);
  }

  double number(String key, double absent) {
    Object value = values.get(key);
    if (value == null) {
      return absent;
    }
    if (value instanceof Number number && Double.isFinite(number.doubleValue())) {
      return number.doubleValue();
    }
    throw bad(key, "is " + shown(value) + ", not a finite number");
  }

  double number(String key) {
    if (!has(key)) {
      throw bad(key, "is missing");
    }
    return number(key, 0);
  }

  Optional<Boolean> flag(String key) {
    return typed(key, Boolean.class, "true or false");
  }

  Optional<String> text(String key) {
    return typed(key, String.class, "a string");
  }

  Optional<List<String>> texts(String key) {
    return list(key, String.class, "a list of strings");
  }

  Optional<List<Integer>> integers(String key) {
    return list(key, Long.class, "a list of integers")
        .map(
            list ->
                list.stream()
                    .map(
                        v -> {
                          if (v != v.intValue()) {
                            throw bad(key, "holds " + v + ", not a 32-bit integer");
                          }
                          return v.intValue();
                        })
                    .toList());
  }

  /** An error about a key. */
  InfiniLoraException bad(String key, String message) {
    return file.fault("metadata key " + key + " " + message);
  }

  private <T> Optional<T> typed(String key, Class<T> type, String wanted) {
    Object value = values.get(key);
    if (value == null || type.isInstance(value)) {
      return Optional.ofNullable(type.cast(value));
    }
    throw bad(key, "is " + shown(value) + ", not " + wanted);
  }

  private <T> Optional<List<T>> list(String key, Class<T> type, String wanted) {
    Object value = values.get(key);
    if (value == null) {
      return Optional.empty();
    }
    if (!(value instanceof List<?> items)) {
      throw bad(key, "is " + shown(value) + ", not " + wanted);
    }
    List<T> result = new ArrayList<>(items.size());
    for (Object item : items) {
      if (!type.isInstance(item)) {
        throw bad(key, "holds " + shown(item) + ", but should be " + wanted);
      }
      result.add(type.cast(item));
    }
    return Optional.of(result);
  }

  private static String shown(Object value) {
    if (value instanceof List<?> list) {
      return "a list of " + list.size();
    }
    String text = String.valueOf(value);
    return text.length() <= 60 ? text : text.substring(0, 60) + "...";
  }
}
