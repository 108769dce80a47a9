package io.infinilora.weights;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * A gpt_oss checkpoint as it is published, experts in MXFP4 blocks and scales: 1 layer, hidden 64,
 * 2 heads of 8, 3 experts of 32. The bytes of blocks and scales tell where they lie.
 */
final class TinyGptOss {

  static final int HIDDEN = 64;
  static final int INNER = 32;
  static final int EXPERTS = 3;
  static final String MLP = "model.layers.0.mlp.";
  static final String GATE_UP = MLP + "experts.gate_up_proj";
  static final String DOWN = MLP + "experts.down_proj";

  private TinyGptOss() {}

  static void config(Path folder) {
    try {
      Files.writeString(
          folder.resolve("config.json"),
          """
          {"model_type": "gpt_oss", "num_hidden_layers": 1, "hidden_size": 64, "head_dim": 8,
           "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32,
           "vocab_size": 7, "num_local_experts": 3, "experts_per_token": 2, "sliding_window": 16,
           "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "swiglu_limit": 7.0,
           "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32.0,
             "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
             "original_max_position_embeddings": 4096},
           "quantization_config": {"quant_method": "mxfp4",
             "modules_to_not_convert": ["lm_head"]}}
          """);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  static SafetensorsBuilder tensors() {
    String attention = "model.layers.0.self_attn.";
    return new SafetensorsBuilder()
        .filled("model.embed_tokens.weight", 0, 7, HIDDEN)
        .filled("lm_head.weight", 0, 7, HIDDEN)
        .filled("model.norm.weight", 1, HIDDEN)
        .filled("model.layers.0.input_layernorm.weight", 1, HIDDEN)
        .filled("model.layers.0.post_attention_layernorm.weight", 1, HIDDEN)
        .filled(attention + "q_proj.weight", 0, 16, HIDDEN)
        .filled(attention + "k_proj.weight", 0, 8, HIDDEN)
        .filled(attention + "v_proj.weight", 0, 8, HIDDEN)
        .filled(attention + "o_proj.weight", 0, HIDDEN, 16)
        .filled(attention + "q_proj.bias", 0, 16)
        .filled(attention + "k_proj.bias", 0, 8)
        .filled(attention + "v_proj.bias", 0, 8)
        .filled(attention + "o_proj.bias", 0, HIDDEN)
        .filled(attention + "sinks", 0, 2)
        .filled(MLP + "router.weight", 0, EXPERTS, HIDDEN)
        .filled(MLP + "router.bias", 0, EXPERTS)
        .filled(GATE_UP + "_bias", 0, EXPERTS, 2 * INNER)
        .filled(DOWN + "_bias", 0, EXPERTS, HIDDEN)
        .raw(GATE_UP + "_blocks", "U8", bytes(3 * 64 * 2 * 16, 7), EXPERTS, 2 * INNER, 2, 16)
        .raw(GATE_UP + "_scales", "U8", bytes(3 * 64 * 2, 11), EXPERTS, 2 * INNER, 2)
        .raw(DOWN + "_blocks", "U8", bytes(3 * 64 * 16, 13), EXPERTS, HIDDEN, 1, 16)
        .raw(DOWN + "_scales", "U8", bytes(3 * 64, 17), EXPERTS, HIDDEN, 1);
  }

  /** Bytes of which no two at the same place of neighbouring rows or experts are alike. */
  static byte[] bytes(int count, int factor) {
    byte[] bytes = new byte[count];
    for (int i = 0; i < count; i++) {
      bytes[i] = (byte) (i * factor + i / 251);
    }
    return bytes;
  }
}
