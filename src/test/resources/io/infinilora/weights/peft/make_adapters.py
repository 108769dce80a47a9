#!/usr/bin/env python3
"""Makes the adapters in this folder with PEFT itself, and the weight changes that PEFT derives from them.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    python make_adapters.py            # all but *_before_0_19
    pip install peft==0.18.1
    python make_adapters.py before_0_19

Each folder gets the adapter as save_pretrained writes it, and delta.safetensors: by layer, expert and target
the matrix [out, in] that PEFT adds to the weight, cut from PEFT's get_delta_weight the way the model's own
forward cuts the weight.
"""

import sys
from pathlib import Path

import peft
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    DbrxConfig,
    GptOssConfig,
    MixtralConfig,
    Qwen3MoeConfig,
)

HIDDEN, INNER, EXPERTS, LAYERS = 16, 6, 4, 2
COMMON = dict(
    vocab_size=8, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
    num_attention_heads=2, num_key_value_heads=1, head_dim=8, num_local_experts=EXPERTS,
    num_experts_per_tok=2, max_position_embeddings=32, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)  # fmt: skip
MODELS = {
    "mixtral": lambda: MixtralConfig(**COMMON),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **{k: v for k, v in COMMON.items() if k != "num_local_experts"},
        num_experts=EXPERTS, moe_intermediate_size=INNER,
    ),  # fmt: skip
    "gpt_oss": lambda: GptOssConfig(**COMMON),
    # Square, as in the published gpt_oss models: shapes alone do not say which side A is on.
    "gpt_oss_square": lambda: GptOssConfig(**{**COMMON, "intermediate_size": HIDDEN}),
    "dbrx": lambda: DbrxConfig(
        d_model=HIDDEN, n_heads=2, n_layers=LAYERS, max_seq_len=32, vocab_size=8,
        attn_config={"kv_n_heads": 1, "clip_qkv": 8, "rope_theta": 10000.0},
        ffn_config={"ffn_hidden_size": INNER, "moe_num_experts": EXPERTS, "moe_top_k": 2},
    ),  # fmt: skip
}


def fused(param, gate, up, down):
    """Cuts for gate_up_proj and down_proj, given how to take a part of an expert's matrix."""
    return {"gate_up_proj": [("gate", gate), ("up", up)], "down_proj": [("down", down)]}[param]


HALVES = lambda p: fused(p, lambda w: w[: w.shape[0] // 2], lambda w: w[w.shape[0] // 2 :], lambda w: w)
STRIPES = lambda p: fused(p, lambda w: w.T[0::2], lambda w: w.T[1::2], lambda w: w.T)
DBRX = lambda p: [{"w1": ("gate", lambda w: w), "v1": ("up", lambda w: w), "w2": ("down", lambda w: w.T)}[p]]
FUSED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
FLAT = ["ffn.experts.mlp.w1", "ffn.experts.mlp.v1", "ffn.experts.mlp.w2"]

# folder: model, cuts, target_parameters, further settings
ADAPTERS = {
    "mixtral_fused": ("mixtral", HALVES, FUSED, dict(use_rslora=True)),
    "qwen3_moe_fused": (
        "qwen3_moe", HALVES, FUSED,
        dict(target_modules=["q_proj"], rank_pattern={"layers.1.mlp.experts.gate_up_proj": 3},
             alpha_pattern={"down_proj": 5}),
    ),
    "gpt_oss_fused": ("gpt_oss", STRIPES, FUSED, {}),
    "gpt_oss_layer": ("gpt_oss_square", STRIPES, ["1.mlp.experts.gate_up_proj", "1.mlp.experts.down_proj"], {}),
    "dbrx_flat": ("dbrx", DBRX, FLAT, dict(target_modules=["Wqkv"])),
}  # fmt: skip
OLD = {
    "qwen3_moe_before_0_19": ("qwen3_moe", HALVES, FUSED, {}),
    "gpt_oss_before_0_19": ("gpt_oss_square", STRIPES, ["mlp.experts.down_proj"], {}),
}


def deltas(model, cuts):
    result = {}
    for name, module in model.named_modules():
        if type(module).__name__ != "ParamWrapper":
            continue
        layer = next(int(part) for part in name.split(".") if part.isdigit())
        delta = module.get_delta_weight("default").detach()
        delta = delta.reshape(EXPERTS, -1, delta.shape[-1])
        for target, cut in cuts(module.parameter_name):
            for expert in range(EXPERTS):
                result[f"{layer}.{expert}.{target}"] = cut(delta[expert]).contiguous()
    return result


def make(folder, model_name, cuts, parameters, settings):
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_config(MODELS[model_name](), dtype=torch.float32)
    settings = {"target_modules": [], **settings}
    lora = LoraConfig(r=2, lora_alpha=4, target_parameters=parameters, **settings)
    model = get_peft_model(base, lora)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight)
    path = Path(__file__).parent / folder
    model.save_pretrained(path)
    (path / "README.md").unlink(missing_ok=True)
    save_file(deltas(model, cuts), path / "delta.safetensors")
    print(folder, "by PEFT", peft.__version__)


for folder, arguments in (OLD if sys.argv[1:] == ["before_0_19"] else ADAPTERS).items():
    make(folder, *arguments)
