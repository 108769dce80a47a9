package io.infinilora.weights;

import java.util.Map;

/** Tensor names that llama introduced and its descendants kept. */
final class LlamaLayouts {

  /** In safetensors files. */
  static final TensorLayout HF =
      TensorLayout.named(
          Map.ofEntries(
              Map.entry(Param.EMBEDDING, "model.embed_tokens.weight"),
              Map.entry(Param.FINAL_NORM, "model.norm.weight"),
              Map.entry(Param.LM_HEAD, "lm_head.weight"),
              Map.entry(Param.ATTENTION_NORM, "model.layers.%d.input_layernorm.weight"),
              Map.entry(Param.Q, "model.layers.%d.self_attn.q_proj.weight"),
              Map.entry(Param.K, "model.layers.%d.self_attn.k_proj.weight"),
              Map.entry(Param.V, "model.layers.%d.self_attn.v_proj.weight"),
              Map.entry(Param.O, "model.layers.%d.self_attn.o_proj.weight"),
              Map.entry(Param.Q_BIAS, "model.layers.%d.self_attn.q_proj.bias"),
              Map.entry(Param.K_BIAS, "model.layers.%d.self_attn.k_proj.bias"),
              Map.entry(Param.V_BIAS, "model.layers.%d.self_attn.v_proj.bias"),
              Map.entry(Param.O_BIAS, "model.layers.%d.self_attn.o_proj.bias"),
              Map.entry(Param.Q_NORM, "model.layers.%d.self_attn.q_norm.weight"),
              Map.entry(Param.K_NORM, "model.layers.%d.self_attn.k_norm.weight"),
              Map.entry(Param.MLP_NORM, "model.layers.%d.post_attention_layernorm.weight"),
              Map.entry(Param.GATE, "model.layers.%d.mlp.gate_proj.weight"),
              Map.entry(Param.UP, "model.layers.%d.mlp.up_proj.weight"),
              Map.entry(Param.DOWN, "model.layers.%d.mlp.down_proj.weight")));

  /** In GGUF files. */
  static final TensorLayout GGUF =
      TensorLayout.named(
          Map.ofEntries(
              Map.entry(Param.EMBEDDING, "token_embd.weight"),
              Map.entry(Param.FINAL_NORM, "output_norm.weight"),
              Map.entry(Param.LM_HEAD, "output.weight"),
              Map.entry(Param.ATTENTION_NORM, "blk.%d.attn_norm.weight"),
              Map.entry(Param.Q, "blk.%d.attn_q.weight"),
              Map.entry(Param.K, "blk.%d.attn_k.weight"),
              Map.entry(Param.V, "blk.%d.attn_v.weight"),
              Map.entry(Param.O, "blk.%d.attn_output.weight"),
              Map.entry(Param.Q_BIAS, "blk.%d.attn_q.bias"),
              Map.entry(Param.K_BIAS, "blk.%d.attn_k.bias"),
              Map.entry(Param.V_BIAS, "blk.%d.attn_v.bias"),
              Map.entry(Param.O_BIAS, "blk.%d.attn_output.bias"),
              Map.entry(Param.Q_NORM, "blk.%d.attn_q_norm.weight"),
              Map.entry(Param.K_NORM, "blk.%d.attn_k_norm.weight"),
              Map.entry(Param.MLP_NORM, "blk.%d.ffn_norm.weight"),
              Map.entry(Param.GATE, "blk.%d.ffn_gate.weight"),
              Map.entry(Param.UP, "blk.%d.ffn_up.weight"),
              Map.entry(Param.DOWN, "blk.%d.ffn_down.weight")));

  private LlamaLayouts() {}
}
