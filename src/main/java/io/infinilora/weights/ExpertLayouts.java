package io.infinilora.weights;

import java.util.Map;
import java.util.Set;

/** The ways in which files keep the experts of a layer. */
final class ExpertLayouts {

  private static final TensorPlace HF_GATE_UP =
      TensorPlace.of("model.layers.%d.mlp.experts.gate_up_proj").shared(Param.GATE, Param.UP);
  private static final TensorPlace GGUF_GATE_UP =
      TensorPlace.of("blk.%d.ffn_gate_up_exps.weight").shared(Param.GATE, Param.UP);
  private static final TensorPlace GGUF_GATE_UP_BIAS =
      TensorPlace.of("blk.%d.ffn_gate_up_exps.bias").shared(Param.GATE_BIAS, Param.UP_BIAS);

  /** mixtral in safetensors: a tensor per expert and projection. */
  static final TensorLayout HF_MIXTRAL =
      LlamaLayouts.HF.withNames(
          Map.of(
              Param.ROUTER, "model.layers.%d.block_sparse_moe.gate.weight",
              Param.GATE, "model.layers.%d.block_sparse_moe.experts.%e.w1.weight",
              Param.DOWN, "model.layers.%d.block_sparse_moe.experts.%e.w2.weight",
              Param.UP, "model.layers.%d.block_sparse_moe.experts.%e.w3.weight"));

  /** qwen3_moe in safetensors: likewise, under other names. */
  static final TensorLayout HF_QWEN =
      LlamaLayouts.HF.withNames(
          Map.of(
              Param.ROUTER, "model.layers.%d.mlp.gate.weight",
              Param.GATE, "model.layers.%d.mlp.experts.%e.gate_proj.weight",
              Param.UP, "model.layers.%d.mlp.experts.%e.up_proj.weight",
              Param.DOWN, "model.layers.%d.mlp.experts.%e.down_proj.weight"));

  /** What transformers 5 holds in memory and writes on request: {@code [experts, out, in]}. */
  private static final TensorLayout HF_FUSED =
      LlamaLayouts.HF.with(
          Map.of(
              Param.ROUTER,
              TensorPlace.of("model.layers.%d.mlp.gate.weight"),
              Param.GATE,
              HF_GATE_UP,
              Param.UP,
              HF_GATE_UP,
              Param.DOWN,
              TensorPlace.of("model.layers.%d.mlp.experts.down_proj")));

  /** In GGUF files: a tensor per projection, {@code [experts, out, in]}. */
  static final TensorLayout GGUF =
      LlamaLayouts.GGUF.withNames(
          Map.of(
              Param.ROUTER, "blk.%d.ffn_gate_inp.weight",
              Param.ROUTER_BIAS, "blk.%d.ffn_gate_inp.bias",
              Param.GATE, "blk.%d.ffn_gate_exps.weight",
              Param.UP, "blk.%d.ffn_up_exps.weight",
              Param.DOWN, "blk.%d.ffn_down_exps.weight",
              Param.GATE_BIAS, "blk.%d.ffn_gate_exps.bias",
              Param.UP_BIAS, "blk.%d.ffn_up_exps.bias",
              Param.DOWN_BIAS, "blk.%d.ffn_down_exps.bias"));

  /** In GGUF files on the converter's option: gate and up in one tensor. */
  private static final TensorLayout GGUF_FUSED =
      GGUF.with(
          Map.of(
              Param.GATE, GGUF_GATE_UP,
              Param.UP, GGUF_GATE_UP,
              Param.GATE_BIAS, GGUF_GATE_UP_BIAS,
              Param.UP_BIAS, GGUF_GATE_UP_BIAS));

  /** In the first GGUF files of mixtral: a tensor per expert and projection. */
  private static final TensorLayout GGUF_SEPARATE =
      GGUF.withNames(
          Map.of(
              Param.GATE, "blk.%d.ffn_gate.%e.weight",
              Param.UP, "blk.%d.ffn_up.%e.weight",
              Param.DOWN, "blk.%d.ffn_down.%e.weight"));

  private ExpertLayouts() {}

  /** The fused layout if the tensors are there, else the published one. */
  static TensorLayout hf(Set<String> tensors, TensorLayout published) {
    return tensors.contains(HF_GATE_UP.name(0, 0)) ? HF_FUSED : published;
  }

  /** Whichever of the three GGUF layouts the tensors are in. */
  static TensorLayout gguf(Set<String> tensors) {
    if (tensors.contains(GGUF_FUSED.firstName(Param.GATE))) {
      return GGUF_FUSED;
    }
    return tensors.contains(GGUF_SEPARATE.firstName(Param.GATE)) ? GGUF_SEPARATE : GGUF;
  }
}
