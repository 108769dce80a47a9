package io.infinilora.weights;

import java.util.List;

/** Llama 1 to 3 and everything published as {@code model_type} llama. */
class LlamaArchitecture extends DenseArchitecture {

  @Override
  public String modelType() {
    return "llama";
  }

  /** The converter reorders q and k of llama models; see {@link RowPermutation}. */
  @Override
  public boolean ggufPairsRows() {
    return true;
  }

  @Override
  Defaults defaults(int heads, int hidden) {
    return new Defaults(heads, hidden / heads, 2048);
  }

  @Override
  AttentionExtras extras(JsonFields config) {
    boolean bias = config.flag("attention_bias", false);
    return new AttentionExtras(bias, bias, false);
  }

  @Override
  AttentionExtras extras(GgufFile file) {
    return new AttentionExtras(
        file.names().contains(ggufNames().of(Param.Q_BIAS, 0)),
        file.names().contains(ggufNames().of(Param.O_BIAS, 0)),
        false);
  }

  @Override
  List<Integer> windows(JsonFields config, int layers) {
    return everyLayer(0, layers);
  }
}
