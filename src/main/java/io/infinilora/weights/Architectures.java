package io.infinilora.weights;

import java.util.List;
import java.util.Optional;
import java.util.stream.Collectors;

/** The architectures that can be loaded. */
final class Architectures {

  private static final List<Architecture> ALL =
      List.of(
          new LlamaArchitecture(),
          new MistralArchitecture(),
          new Qwen2Architecture(),
          new Qwen3Architecture());

  private Architectures() {}

  /** The architecture with this Hugging Face {@code model_type}. */
  static Optional<Architecture> byModelType(String modelType) {
    return ALL.stream().filter(a -> a.modelType().equals(modelType)).findFirst();
  }

  /** The architecture with this GGUF {@code general.architecture}. */
  static Optional<Architecture> byGgufName(String name) {
    return ALL.stream().filter(a -> a.ggufName().equals(Optional.of(name))).findFirst();
  }

  /** All model types, for error messages. */
  static String supported() {
    return ALL.stream().map(Architecture::modelType).collect(Collectors.joining(", "));
  }
}
