package io.infinilora.weights;

import java.util.ArrayList;
import java.util.List;

/** Qwen2 and Qwen2.5: llama with biases on q, k and v, and a sliding window on the upper layers. */
class Qwen2Architecture extends LlamaFamilyArchitecture {

  private static final int DEFAULT_WINDOW = 4096;
  private static final int DEFAULT_FULL_LAYERS = 28;

  @Override
  public String modelType() {
    return "qwen2";
  }

  @Override
  Defaults defaults(int heads, int hidden) {
    return new Defaults(32, hidden / heads, 32768, 1e-6, 10000);
  }

  @Override
  AttentionExtras extras(JsonFields config) {
    return AttentionExtras.biases(true, false);
  }

  @Override
  AttentionExtras extras(GgufFile file) {
    return AttentionExtras.biases(true, false);
  }

  /**
   * Without {@code use_sliding_window} attention is full, whatever else is set. With it, {@code
   * layer_types} decides; where that is absent, layers from {@code max_window_layers} on slide.
   */
  @Override
  List<Integer> windows(JsonFields config, int layers) {
    if (!config.flag("use_sliding_window", false)
        || (config.contains("sliding_window") && !config.has("sliding_window"))) {
      return everyLayer(0, layers);
    }
    int window = config.has("sliding_window") ? window(config, "sliding_window") : DEFAULT_WINDOW;
    List<String> types = layerTypes(config, layers);
    int full = config.integer("max_window_layers", DEFAULT_FULL_LAYERS);
    List<Integer> windows = new ArrayList<>();
    for (int layer = 0; layer < layers; layer++) {
      boolean slides = types.isEmpty() ? layer >= full : slides(config, types.get(layer));
      windows.add(slides ? window : 0);
    }
    return windows;
  }
}
