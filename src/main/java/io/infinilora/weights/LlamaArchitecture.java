package io.infinilora.weights;

import java.util.List;

/** Llama 1 to 3 and everything published as {@code model_type} llama. */
class LlamaArchitecture extends LlamaFamilyArchitecture {

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
    return new Defaults(heads, hidden / heads, 2048, 1e-6, 10000);
  }

  @Override
  AttentionExtras extras(JsonFields config) {
    boolean bias = config.flag("attention_bias", false);
    return AttentionExtras.biases(bias, bias);
  }

  @Override
  AttentionExtras extras(GgufFile file) {
    return presentBiases(file);
  }

  @Override
  List<Integer> windows(JsonFields config, int layers) {
    return everyLayer(0, layers);
  }
}
