package io.infinilora.wire;

import io.infinilora.core.AdapterId;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;

/** Makes records in which every component differs from every default and from its neighbours. */
final class RecordSamples {
  /** One that its checks let pass. */
  private static final SamplingParams SAMPLING =
      new SamplingParams(
          0.5,
          0.75,
          3,
          0.25,
          1.5,
          -0.5,
          0.125,
          1L << 60,
          Map.of(7, 1.5),
          List.of(11, 12),
          13,
          true,
          4);

  private int count = 1;

  <T> T of(Class<T> type) {
    return type.cast(value(type));
  }

  private Object value(Type type) {
    if (type instanceof ParameterizedType generic) {
      return generic(generic);
    }
    Class<?> plain = (Class<?>) type;
    if (plain == SamplingParams.class) {
      return SAMPLING;
    }
    if (plain == GenerateRequest.class) {
      return new GenerateRequest(
          "r",
          new int[] {5, 6},
          Optional.of("pirate"),
          SAMPLING,
          true,
          true,
          new int[] {7},
          Optional.of(new TokenEvent.Started(Optional.of(new AdapterId("pirate", "ab")), 1)));
    }
    if (plain.isRecord()) {
      return record(plain);
    }
    if (plain.isEnum()) {
      Object[] constants = plain.getEnumConstants();
      return constants[count++ % constants.length];
    }
    count++;
    return switch (plain.getSimpleName()) {
      case "int", "Integer" -> count;
      case "long", "Long" -> (1L << 40) + count;
      case "double", "Double" -> count / 8.0;
      case "float", "Float" -> -count / 3f;
      case "float[]" -> new float[] {count, -0.1f, Float.NEGATIVE_INFINITY};
      case "boolean", "Boolean" -> true;
      case "String" -> "text \"" + count + "\" \u00e9";
      case "UUID" -> new UUID(count, ~count);
      case "int[]" -> new int[] {count, -count};
      case "long[]" -> new long[] {count, Long.MIN_VALUE};
      default -> throw new IllegalArgumentException("no message may hold a " + plain);
    };
  }

  private Object generic(ParameterizedType type) {
    Type[] arguments = type.getActualTypeArguments();
    Class<?> raw = (Class<?>) type.getRawType();
    if (raw == List.class) {
      return List.of(value(arguments[0]), value(arguments[0]));
    }
    if (raw == Set.class) {
      return Set.of(value(arguments[0]));
    }
    if (raw == Optional.class) {
      return Optional.of(value(arguments[0]));
    }
    if (raw == Map.class) {
      Map<Object, Object> map = new LinkedHashMap<>();
      map.put(value(arguments[0]), value(arguments[1]));
      return map;
    }
    throw new IllegalArgumentException("no message may hold a " + type);
  }

  private Object record(Class<?> type) {
    RecordComponent[] components = type.getRecordComponents();
    Object[] values = Arrays.stream(components).map(c -> value(c.getGenericType())).toArray();
    Class<?>[] types =
        Arrays.stream(components).map(RecordComponent::getType).toArray(Class<?>[]::new);
    try {
      var constructor = type.getDeclaredConstructor(types);
      constructor.setAccessible(true);
      return constructor.newInstance(values);
    } catch (ReflectiveOperationException e) {
      throw new IllegalArgumentException(type + " of " + Arrays.toString(values), e);
    }
  }
}
