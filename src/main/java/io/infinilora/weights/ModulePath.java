package io.infinilora.weights;

import java.util.Optional;

/**
 * The name of a layer's module, taken apart.
 *
 * @param layer number of the layer
 * @param name within the layer, with {@code %d} for the expert
 * @param expert number of the expert, or {@link AdaptedModule#DENSE}
 */
record ModulePath(int layer, String name, int expert) {

  private static final int MAX_DIGITS = 9;

  /**
   * Takes a name apart.
   *
   * @param layers what precedes the number of the layer
   * @return nothing if the name is not that of a layer's module
   */
  static Optional<ModulePath> parse(String module, String layers) {
    int dot = module.indexOf('.', layers.length());
    if (!module.startsWith(layers) || dot < 0) {
      return Optional.empty();
    }
    int layer = number(module, layers.length(), dot);
    if (layer < 0) {
      return Optional.empty();
    }
    String name = module.substring(dot + 1);
    for (int from = 0; from < name.length(); ) {
      int end = name.indexOf('.', from);
      end = end < 0 ? name.length() : end;
      int expert = number(name, from, end);
      if (expert >= 0) {
        String pattern = name.substring(0, from) + "%d" + name.substring(end);
        return Optional.of(new ModulePath(layer, pattern, expert));
      }
      from = end + 1;
    }
    return Optional.of(new ModulePath(layer, name, AdaptedModule.DENSE));
  }

  /** A decimal number as it is usually written, or -1. */
  private static int number(String text, int from, int end) {
    int digits = end - from;
    if (digits < 1 || digits > MAX_DIGITS || (digits > 1 && text.charAt(from) == '0')) {
      return -1;
    }
    int value = 0;
    for (int i = from; i < end; i++) {
      int digit = text.charAt(i) - '0';
      if (digit < 0 || digit > 9) {
        return -1;
      }
      value = 10 * value + digit;
    }
    return value;
  }
}
