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
          new Qwen3Architecture(),
          new MixtralArchitecture(),
          new Qwen3MoeArchitecture(),
          new GptOssArchitecture(),
          new DbrxArchitecture());

  private Architectures() {}

  /** The architecture with this Hugging Face {@code model_type}. */
  static Optional<Architecture> byModelType(String modelType) {
    return ALL.stream().filter(a -> a.modelType().equals(modelType)).findFirst();
  }

  /**
   * The architecture of a GGUF file with this {@code general.architecture}. Where a dense one and
   * one with experts share the name, the number of experts tells them apart.
   */
  static Optional<Architecture> byGgufName(String name, GgufMetadata metadata) {
    List<Architecture> named =
        ALL.stream().filter(a -> a.ggufName().equals(Optional.of(name))).toList();
    boolean routed = metadata.integer(name + ".expert_count", 0) != 0;
    return named.stream().filter(a -> named.size() == 1 || a.routed() == routed).findFirst();
  }

  /** All model types, for error messages. */
  static String supported() {
    return ALL.stream().map(Architecture::modelType).collect(Collectors.joining(", "));
  }
}
