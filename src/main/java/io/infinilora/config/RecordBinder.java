package io.infinilora.config;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.RecordComponent;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.function.Predicate;

/**
 * Makes configuration records out of settings. Keys are the names of record components, joined by
 * dots, so that a record is the only place where a key is declared.
 */
final class RecordBinder {
  private RecordBinder() {}

  /** Every key of a record, in order of declaration. */
  static List<String> keys(Class<? extends Record> type) {
    List<String> keys = new ArrayList<>();
    addKeys(type, "", keys, component -> true);
    return keys;
  }

  /** The keys of maps: below each, any name is a key. */
  static List<String> mapKeys(Class<? extends Record> type) {
    List<String> keys = new ArrayList<>();
    addKeys(type, "", keys, component -> SettingType.isMap(component.getGenericType()));
    return keys;
  }

  /** The keys of lists. */
  static List<String> listKeys(Class<? extends Record> type) {
    List<String> keys = new ArrayList<>();
    addKeys(type, "", keys, component -> SettingType.isList(component.getGenericType()));
    return keys;
  }

  /** The record with what is set; everything else is taken from {@code defaults}. */
  static <R extends Record> R bind(R defaults, Map<String, Setting> settings) {
    return bind(defaults, "", settings);
  }

  private static void addKeys(
      Class<? extends Record> type,
      String prefix,
      List<String> keys,
      Predicate<RecordComponent> wanted) {
    for (RecordComponent component : type.getRecordComponents()) {
      String key = prefix + component.getName();
      if (isGroup(component)) {
        addKeys(component.getType().asSubclass(Record.class), key + ".", keys, wanted);
      } else if (wanted.test(component)) {
        keys.add(key);
      }
    }
  }

  private static boolean isGroup(RecordComponent component) {
    return SettingType.of(component.getGenericType()) == null
        && !SettingType.isMap(component.getGenericType());
  }

  private static <R extends Record> R bind(
      R defaults, String prefix, Map<String, Setting> settings) {
    RecordComponent[] components = defaults.getClass().getRecordComponents();
    Object[] values = new Object[components.length];
    for (int i = 0; i < components.length; i++) {
      RecordComponent component = components[i];
      String key = prefix + component.getName();
      Object value = call(() -> component.getAccessor().invoke(defaults));
      if (isGroup(component)) {
        value = bind((Record) value, key + ".", settings);
      } else if (SettingType.isMap(component.getGenericType())) {
        value = map(key + ".", SettingType.ofValues(component.getGenericType()), settings);
      } else if (settings.containsKey(key)) {
        value = parse(key, component, settings.get(key));
      }
      values[i] = value;
    }
    Class<?>[] types =
        Arrays.stream(components).map(RecordComponent::getType).toArray(Class<?>[]::new);
    @SuppressWarnings("unchecked") // The class of an R.
    Class<R> type = (Class<R>) defaults.getClass();
    return call(() -> type.getDeclaredConstructor(types).newInstance(values));
  }

  private static Object parse(String key, RecordComponent component, Setting setting) {
    boolean optional = SettingType.isOptional(component.getGenericType());
    SettingType type = SettingType.of(component.getGenericType());
    if (setting.text() == null) {
      if (optional) {
        return Optional.empty();
      }
      throw Check.error(
          "%s: %s must be %s, not null".formatted(setting.origin(), key, type.expected()));
    }
    Object value = parse(key, type, setting);
    return optional ? Optional.of(value) : value;
  }

  /** Entries in order of their names; null takes one away. */
  private static Map<String, Object> map(
      String prefix, SettingType type, Map<String, Setting> settings) {
    Map<String, Object> values = new TreeMap<>();
    settings.forEach(
        (key, setting) -> {
          if (key.startsWith(prefix) && setting.text() != null) {
            values.put(key.substring(prefix.length()), parse(key, type, setting));
          }
        });
    return values;
  }

  private static Object parse(String key, SettingType type, Setting setting) {
    try {
      return type.parser().apply(setting.text());
    } catch (IllegalArgumentException e) {
      throw Check.error(
          "%s: %s must be %s, not \"%s\""
              .formatted(setting.origin(), key, type.expected(), setting.text()));
    }
  }

  /** A reflective call that can only fail in what it calls. */
  private interface Reflection<T> {
    T run() throws ReflectiveOperationException;
  }

  private static <T> T call(Reflection<T> reflection) {
    try {
      return reflection.run();
    } catch (InvocationTargetException e) {
      if (e.getCause() instanceof RuntimeException cause) {
        throw cause;
      }
      throw new IllegalStateException(e);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(e);
    }
  }
}
