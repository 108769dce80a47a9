package io.infinilora.weights;

import java.util.EnumMap;
import java.util.Map;

/**
 * The names that a file format gives to the parameters of an architecture. In a pattern, {@code %d}
 * stands for the layer.
 */
final class TensorNames {

  private final Map<Param, String> patterns;

  TensorNames(Map<Param, String> patterns) {
    this.patterns = new EnumMap<>(patterns);
  }

  /** The name of a parameter. */
  String of(Param param, int layer) {
    String pattern = patterns.get(param);
    if (pattern == null) {
      throw new IllegalArgumentException("no tensor name for " + param);
    }
    return pattern.replace("%d", Integer.toString(layer));
  }
}
