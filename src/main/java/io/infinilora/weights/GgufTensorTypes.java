package io.infinilora.weights;

import io.infinilora.core.DType;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;

/** The numbers by which GGUF files name element types. */
final class GgufTensorTypes {

  private static final Map<Integer, DType> SUPPORTED =
      Map.of(
          0, DType.F32,
          1, DType.F16,
          2, DType.Q4_0,
          3, DType.Q4_1,
          8, DType.Q8_0,
          12, DType.Q4_K,
          13, DType.Q5_K,
          14, DType.Q6_K,
          30, DType.BF16,
          39, DType.MXFP4);

  /** Names of the others, so that an error can say more than a number. */
  private static final Map<Integer, String> OTHERS =
      Map.ofEntries(
          Map.entry(6, "Q5_0"),
          Map.entry(7, "Q5_1"),
          Map.entry(9, "Q8_1"),
          Map.entry(10, "Q2_K"),
          Map.entry(11, "Q3_K"),
          Map.entry(15, "Q8_K"),
          Map.entry(16, "IQ2_XXS"),
          Map.entry(17, "IQ2_XS"),
          Map.entry(18, "IQ3_XXS"),
          Map.entry(19, "IQ1_S"),
          Map.entry(20, "IQ4_NL"),
          Map.entry(21, "IQ3_S"),
          Map.entry(22, "IQ2_S"),
          Map.entry(23, "IQ4_XS"),
          Map.entry(24, "I8"),
          Map.entry(25, "I16"),
          Map.entry(26, "I32"),
          Map.entry(27, "I64"),
          Map.entry(28, "F64"),
          Map.entry(29, "IQ1_M"),
          Map.entry(34, "TQ1_0"),
          Map.entry(35, "TQ2_0"));

  private GgufTensorTypes() {}

  static Optional<DType> byId(int id) {
    return Optional.ofNullable(SUPPORTED.get(id));
  }

  /** The number of a type that {@link #byId} knows. */
  static int idOf(DType type) {
    return SUPPORTED.entrySet().stream()
        .filter(e -> e.getValue() == type)
        .map(Map.Entry::getKey)
        .findFirst()
        .orElseThrow(() -> new IllegalArgumentException(type + " in a GGUF file"));
  }

  /** What to call a type in an error. */
  static String nameOf(int id) {
    return OTHERS.getOrDefault(id, "number " + Integer.toUnsignedString(id));
  }

  /** The supported types, for an error. */
  static String supported() {
    return SUPPORTED.values().stream().sorted().map(DType::name).collect(Collectors.joining(", "));
  }
}
