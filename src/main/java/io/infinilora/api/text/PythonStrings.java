package io.infinilora.api.text;

import com.hubspot.jinjava.el.JinjavaInterpreterResolver;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import jinjava.javax.el.CompositeELResolver;
import jinjava.javax.el.ELContext;
import jinjava.javax.el.MethodNotFoundException;

/**
 * The methods of Python's strings (and {@code get} of its dictionaries) that chat templates call.
 * Other methods of strings are refused, so that a Java method of the same name but another meaning
 * is never called by accident.
 */
final class PythonStrings extends CompositeELResolver {
  /** Calls are answered here; properties, indices and other objects by jinjava. */
  PythonStrings() {
    add(JinjavaInterpreterResolver.DEFAULT_RESOLVER_READ_ONLY);
  }

  @Override
  public Object invoke(
      ELContext context, Object base, Object method, Class<?>[] types, Object[] arguments) {
    if (base instanceof CharSequence s) {
      context.setPropertyResolved(true);
      return call(s.toString(), Objects.toString(method), arguments);
    }
    if (base instanceof Map<?, ?> map && "get".equals(method) && arguments.length == 2) {
      context.setPropertyResolved(true);
      Object key = Objects.toString(arguments[0]);
      return map.containsKey(key) ? map.get(key) : arguments[1];
    }
    return super.invoke(context, base, method, types, arguments);
  }

  private static Object call(String s, String method, Object[] a) {
    return switch (method + "/" + a.length) {
      case "strip/0" -> s.strip();
      case "lstrip/0" -> s.stripLeading();
      case "rstrip/0" -> s.stripTrailing();
      case "strip/1" -> trim(s, text(a[0]), true, true);
      case "lstrip/1" -> trim(s, text(a[0]), true, false);
      case "rstrip/1" -> trim(s, text(a[0]), false, true);
      case "startswith/1" -> s.startsWith(text(a[0]));
      case "endswith/1" -> s.endsWith(text(a[0]));
      case "lower/0" -> s.toLowerCase(Locale.ROOT);
      case "upper/0" -> s.toUpperCase(Locale.ROOT);
      case "capitalize/0" -> capitalize(s);
      case "title/0" -> title(s);
      case "replace/2" -> s.replace(text(a[0]), text(a[1]));
      case "split/0" -> words(s);
      case "split/1" -> split(s, text(a[0]), -1);
      case "split/2" -> split(s, text(a[0]), ((Number) a[1]).intValue());
      case "splitlines/0" -> s.lines().toList();
      case "join/1" -> String.join(s, strings(a[0]));
      case "find/1" -> (long) s.indexOf(text(a[0]));
      case "count/1" -> (long) split(s, text(a[0]), -1).size() - 1;
      case "isdigit/0" -> !s.isEmpty() && s.chars().allMatch(Character::isDigit);
      default ->
          throw new MethodNotFoundException(
              "strings have no method " + method + " with " + a.length + " arguments here");
    };
  }

  private static String text(Object argument) {
    if (argument instanceof CharSequence s) {
      return s.toString();
    }
    throw new IllegalArgumentException("a string is needed, not " + argument);
  }

  private static List<String> strings(Object argument) {
    List<String> strings = new ArrayList<>();
    for (Object item : (Iterable<?>) argument) {
      strings.add(text(item));
    }
    return strings;
  }

  private static String trim(String s, String characters, boolean left, boolean right) {
    int from = 0;
    int to = s.length();
    while (left && from < to && characters.indexOf(s.charAt(from)) >= 0) {
      from++;
    }
    while (right && from < to && characters.indexOf(s.charAt(to - 1)) >= 0) {
      to--;
    }
    return s.substring(from, to);
  }

  private static List<String> split(String s, String separator, int most) {
    if (separator.isEmpty()) {
      throw new IllegalArgumentException("split by an empty string");
    }
    List<String> parts = new ArrayList<>();
    int from = 0;
    int at = s.indexOf(separator);
    while (at >= 0 && (most < 0 || parts.size() < most)) {
      parts.add(s.substring(from, at));
      from = at + separator.length();
      at = s.indexOf(separator, from);
    }
    parts.add(s.substring(from));
    return parts;
  }

  private static List<String> words(String s) {
    String stripped = s.strip();
    return stripped.isEmpty() ? List.of() : List.of(stripped.split("\\s+"));
  }

  private static String capitalize(String s) {
    return s.isEmpty()
        ? s
        : s.substring(0, 1).toUpperCase(Locale.ROOT) + s.substring(1).toLowerCase(Locale.ROOT);
  }

  private static String title(String s) {
    StringBuilder out = new StringBuilder(s.length());
    boolean inside = false;
    for (int i = 0; i < s.length(); i++) {
      char c = s.charAt(i);
      out.append(inside ? Character.toLowerCase(c) : Character.toTitleCase(c));
      inside = Character.isLetter(c);
    }
    return out.toString();
  }
}
