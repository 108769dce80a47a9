package io.infinilora.weights;

/** Qwen3: norms on q and k per head, biases only on request, a head size of its own. */
class Qwen3Architecture extends Qwen2Architecture {

  @Override
  public String modelType() {
    return "qwen3";
  }

  @Override
  Defaults defaults(int heads, int hidden) {
    return new Defaults(32, 128, 32768, 1e-6, 10000);
  }

  @Override
  AttentionExtras extras(JsonFields config) {
    boolean bias = config.flag("attention_bias", false);
    return AttentionExtras.biases(bias, bias).withQkNorm();
  }

  @Override
  AttentionExtras extras(GgufFile file) {
    return presentBiases(file).withQkNorm();
  }
}
