package io.infinilora.weights;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/**
 * A number per module: that of the first key that matches the module's name. Keys are regular
 * expressions, but some adapters have one for each of their many thousand modules, spelled out; so
 * keys whose only operators are dots are looked up instead of tried one after the other.
 */
final class PatternValues {

  private static final Pattern SPELLED_OUT = Pattern.compile("[A-Za-z0-9_.-]+");

  /** The number of the {@code order}-th key. */
  private record Value(int order, double number) {}

  /** A key that has to be tried. */
  private record Tried(ModulePattern pattern, Value value) {}

  /** What spelled-out keys are grouped by: a dot stands for any character, also for itself. */
  private record Form(int length, BitSet dots) {

    static Form of(String key) {
      BitSet dots = new BitSet();
      for (int i = 0; i < key.length(); i++) {
        dots.set(i, key.charAt(i) == '.');
      }
      return new Form(key.length(), dots);
    }

    /**
     * The end of a name that a key of this form could match, as that key; null if there is none.
     */
    String keyFor(String module) {
      int from = module.length() - length;
      if (from < 0 || (from > 0 && module.charAt(from - 1) != '.')) {
        return null;
      }
      char[] key = module.substring(from).toCharArray();
      dots.stream().forEach(i -> key[i] = '.');
      return new String(key);
    }
  }

  private final Map<Form, Map<String, Value>> spelledOut = new HashMap<>();
  private final List<Tried> tried = new ArrayList<>();
  private int count;

  /**
   * Adds a key behind those that there are.
   *
   * @throws PatternSyntaxException if the key is no regular expression, or too long
   */
  void add(String key, double number) {
    Value value = new Value(count++, number);
    if (SPELLED_OUT.matcher(key).matches()) {
      spelledOut.computeIfAbsent(Form.of(key), form -> new HashMap<>()).putIfAbsent(key, value);
    } else {
      tried.add(new Tried(ModulePattern.suffix(key), value));
    }
  }

  /**
   * The number for a module, if any key matches.
   *
   * @throws ModulePattern.TooExpensiveException if that takes too long to say
   */
  OptionalDouble of(String module, ModulePattern.Effort effort) {
    Value first = null;
    for (Map.Entry<Form, Map<String, Value>> entry : spelledOut.entrySet()) {
      String key = entry.getKey().keyFor(module);
      Value value = key == null ? null : entry.getValue().get(key);
      if (value != null && (first == null || value.order() < first.order())) {
        first = value;
      }
    }
    for (Tried candidate : tried) {
      if (first != null && first.order() < candidate.value().order()) {
        break;
      }
      if (candidate.pattern().matches(module, effort)) {
        first = candidate.value();
        break;
      }
    }
    return first == null ? OptionalDouble.empty() : OptionalDouble.of(first.number());
  }
}
