package io.infinilora.weights;

/** Qwen3: norms on q and k per head, biases only on request, a head size of its own. */
final class Qwen3Architecture extends Qwen2Architecture {

  @Override
  public String modelType() {
    return "qwen3";
  }

  @Override
  Defaults defaults(int heads, int hidden) {
    return new Defaults(32, 128, 32768);
  }

  @Override
  AttentionExtras extras(JsonFields config) {
    boolean bias = config.flag("attention_bias", false);
    return new AttentionExtras(bias, bias, true);
  }

  @Override
  AttentionExtras extras(GgufFile file) {
    return new AttentionExtras(
        file.names().contains(ggufNames().of(Param.Q_BIAS, 0)),
        file.names().contains(ggufNames().of(Param.O_BIAS, 0)),
        true);
  }
}
