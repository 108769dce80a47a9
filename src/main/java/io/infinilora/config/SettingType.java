package io.infinilora.config;

import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.WeightSource;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.net.URI;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * How a setting's text becomes a value.
 *
 * @param expected what a right value is, for messages
 * @param parser throws IllegalArgumentException for wrong text
 */
record SettingType(String expected, Function<String, Object> parser) {
  private static final Pattern DURATION = Pattern.compile("(\\d{1,9})\\s*(ms|s|m|h)");

  private static final Map<Type, SettingType> TYPES =
      Map.ofEntries(
          Map.entry(String.class, new SettingType("text", text -> text)),
          Map.entry(Integer.class, new SettingType("a whole number", Integer::valueOf)),
          Map.entry(int.class, new SettingType("a whole number", Integer::valueOf)),
          Map.entry(boolean.class, new SettingType("true or false", SettingType::bool)),
          Map.entry(Path.class, new SettingType("a path", SettingType::path)),
          Map.entry(
              WeightSource.class,
              new SettingType("a path or hf:REPO[@REVISION][:FILE.gguf]", WeightSource::parse)),
          Map.entry(
              URI.class, new SettingType("an address such as https://example.org", URI::create)),
          Map.entry(Secret.class, new SettingType("text", Secret::new)),
          Map.entry(ByteSize.class, new SettingType("a size such as 512MiB", ByteSize::parse)),
          Map.entry(
              Duration.class, new SettingType("a duration such as 30s", SettingType::duration)),
          Map.entry(LoraMode.class, choice(LoraMode.class)),
          Map.entry(Role.class, choice(Role.class)),
          Map.entry(DeviceKind.class, choice(DeviceKind.class)),
          Map.entry(HostPort.class, new SettingType("HOST:PORT", HostPort::parse)),
          Map.entry(Policy.class, choice(Policy.class)),
          Map.entry(Eviction.class, choice(Eviction.class)),
          Map.entry(
              LoraGrid.class,
              new SettingType("expert ranges x layer ranges such as 2x4", LoraGrid::parse)));

  /** The type of a record component's values, or null if the component is a group of settings. */
  static SettingType of(Type type) {
    Type value = isOptional(type) ? argument(type) : type;
    return isList(value) ? listOf(TYPES.get(argument(value))) : TYPES.get(value);
  }

  private static SettingType listOf(SettingType item) {
    return new SettingType(
        "a list, in one text joined by commas, each " + item.expected,
        text ->
            text.isBlank()
                ? List.of()
                : Arrays.stream(text.split(",", -1)).map(String::strip).map(item.parser).toList());
  }

  /** Whether a component, set or not, is a list of values. */
  static boolean isList(Type type) {
    Type value = isOptional(type) ? argument(type) : type;
    return value instanceof ParameterizedType generic && generic.getRawType() == List.class;
  }

  /** Whether a component may be not set. */
  static boolean isOptional(Type type) {
    return type instanceof ParameterizedType generic && generic.getRawType() == Optional.class;
  }

  /** Whether a component is a map from names to values, each of which is a setting. */
  static boolean isMap(Type type) {
    return type instanceof ParameterizedType generic && generic.getRawType() == Map.class;
  }

  /** The type of a map's values. */
  static SettingType ofValues(Type map) {
    return of(((ParameterizedType) map).getActualTypeArguments()[1]);
  }

  private static Type argument(Type type) {
    return ((ParameterizedType) type).getActualTypeArguments()[0];
  }

  private static Object bool(String text) {
    return switch (text) {
      case "true" -> true;
      case "false" -> false;
      default -> throw new IllegalArgumentException(text);
    };
  }

  private static Object path(String text) {
    if (text.isBlank()) {
      throw new IllegalArgumentException("empty path");
    }
    return Path.of(text);
  }

  private static Object duration(String text) {
    Matcher matcher = DURATION.matcher(text);
    if (!matcher.matches()) {
      throw new IllegalArgumentException(text);
    }
    long amount = Long.parseLong(matcher.group(1));
    return switch (matcher.group(2)) {
      case "ms" -> Duration.ofMillis(amount);
      case "s" -> Duration.ofSeconds(amount);
      case "m" -> Duration.ofMinutes(amount);
      default -> Duration.ofHours(amount);
    };
  }

  private static <E extends Enum<E>> SettingType choice(Class<E> type) {
    return new SettingType(
        Arrays.stream(type.getEnumConstants())
            .map(value -> value.name().toLowerCase(Locale.ROOT).replace('_', '-'))
            .collect(Collectors.joining(", ", "one of ", "")),
        text -> Enum.valueOf(type, text.toUpperCase(Locale.ROOT).replace('-', '_')));
  }
}
