package io.infinilora.weights;

import java.util.List;
import java.util.Optional;

/** Mistral: llama with a sliding window on every layer, or on none if it is null. */
final class MistralArchitecture extends LlamaArchitecture {

  private static final int DEFAULT_WINDOW = 4096;

  @Override
  public String modelType() {
    return "mistral";
  }

  /** GGUF files of Mistral models say llama. */
  @Override
  public Optional<String> ggufName() {
    return Optional.empty();
  }

  @Override
  Defaults defaults(int heads, int hidden) {
    return new Defaults(8, hidden / heads, 131072, 1e-6, 10000);
  }

  @Override
  AttentionExtras extras(JsonFields config) {
    return AttentionExtras.biases(false, false);
  }

  @Override
  List<Integer> windows(JsonFields config, int layers) {
    if (!config.contains("sliding_window")) {
      return everyLayer(DEFAULT_WINDOW, layers);
    }
    return everyLayer(config.has("sliding_window") ? window(config, "sliding_window") : 0, layers);
  }
}
