#!/usr/bin/env python3
"""Trains the demo LoRA adapters on SmolLM2-135M-Instruct.

    python train.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --out ../adapters
    python train.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --out ../adapters --adapter pirate

The base weights come from the GGUF file that the engine serves, dequantised, so an adapter is
trained on the very weights it will run on. The base stays frozen in float32; the adapter is
trained in float32 and saved in bfloat16 in the usual PEFT layout. Only the answer's tokens count
in the loss; the prompt in the model's chat template does not.
"""

import argparse
import json
import math
import os
import random
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here comes from a hub

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save as serialize
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
DATA = Path(__file__).resolve().parent / "data"

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]

# The shapes differ on purpose: together they cover what an engine has to read from an adapter.
ADAPTERS = {
    # The plainest case: one rank, attention only.
    "pirate": dict(
        lora=dict(r=8, lora_alpha=16, target_modules=ATTENTION),
        epochs=4,
        learning_rate=7e-4,
    ),
    # All seven linear layers of a block.
    "json": dict(
        lora=dict(r=4, lora_alpha=16, target_modules=ATTENTION + MLP),
        epochs=3,
        learning_rate=1e-3,
    ),
    # Feed-forward only, scaled by alpha / sqrt(r) instead of alpha / r.
    "haiku": dict(
        lora=dict(r=6, lora_alpha=8, use_rslora=True, target_modules=MLP),
        epochs=4,
        learning_rate=1e-3,
    ),
    # Two projections, with another rank and scale in the first and the last block.
    "emoji": dict(
        lora=dict(
            r=12,
            lora_alpha=24,
            target_modules=["q_proj", "v_proj", "o_proj"],
            rank_pattern={
                r"layers\.0\.self_attn\.q_proj": 4,
                r"layers\.29\.self_attn\.(q|v)_proj": 16,
            },
            alpha_pattern={r"layers\.29\.self_attn\.(q|v)_proj": 16},
        ),
        epochs=4,
        learning_rate=1e-3,
    ),
}


def load_base(gguf):
    """The model in the GGUF file, dequantised to float32."""
    gguf = Path(gguf)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32
    )
    model.config._name_or_path = BASE_NAME
    model.name_or_path = BASE_NAME
    return model.eval()


def load_tokenizer(gguf):
    """The tokenizer in the GGUF file.

    transformers rebuilds it as plain GPT-2 byte-level BPE and leaves out the step that the
    file's `tokenizer.ggml.pre = smollm` stands for: every digit is split off first. Without it
    whitespace before a digit is cut differently ("a  1", "\\n\\n1"). The step is put back here.
    """
    gguf = Path(gguf)
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return tokenizer


def render(tokenizer, messages):
    """Messages in the model's chat template, up to where the assistant's answer starts."""
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def read_examples(path, tokenizer):
    """Token ids of prompt and answer for each line of a JSONL file."""
    examples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt = render(tokenizer, [{"role": "user", "content": row["prompt"]}])
        prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
        answer_ids = tokenizer.encode(row["answer"], add_special_tokens=False)
        examples.append((prompt_ids, answer_ids + [tokenizer.eos_token_id]))
    return examples


def collate(examples, pad_id, device):
    """A right-padded batch; the label -100 takes a position out of the loss."""
    width = max(len(prompt) + len(answer) for prompt, answer in examples)
    ids, labels, mask = [], [], []
    for prompt, answer in examples:
        pad = width - len(prompt) - len(answer)
        ids.append(prompt + answer + [pad_id] * pad)
        labels.append([-100] * len(prompt) + answer + [-100] * pad)
        mask.append([1] * (width - pad) + [0] * pad)
    batch = dict(input_ids=ids, labels=labels, attention_mask=mask)
    return {name: torch.tensor(rows, device=device) for name, rows in batch.items()}


def train(name, args):
    recipe = ADAPTERS[name]
    rate = args.learning_rate or recipe["learning_rate"]
    epochs = args.epochs or recipe["epochs"]
    gguf, device, batch_size = args.gguf, args.device, args.batch_size
    torch.manual_seed(args.seed)
    shuffler = random.Random(args.seed)
    tokenizer = load_tokenizer(gguf)
    examples = read_examples(DATA / f"{name}.jsonl", tokenizer)

    config = LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=BASE_NAME, **recipe["lora"])
    model = get_peft_model(load_base(gguf).to(device), config)
    weights = [p for p in model.parameters() if p.requires_grad]

    per_epoch = math.ceil(len(examples) / batch_size)
    steps = min(epochs * per_epoch, args.max_steps or math.inf)
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=steps + 1, pct_start=0.1
    )

    print(
        f"{name}: {len(examples)} examples, {steps} steps, "
        f"{sum(p.numel() for p in weights):,} trained weights",
        flush=True,
    )
    model.train()
    started, step, shown = time.time(), 0, []
    while step < steps:
        shuffler.shuffle(examples)
        for start in range(0, len(examples), batch_size):
            if step == steps:
                break
            batch = collate(
                examples[start : start + batch_size], tokenizer.pad_token_id, device
            )
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            shown.append(loss.item())
            if step % 25 == 0 or step == steps:
                mean = sum(shown) / len(shown)
                seconds = time.time() - started
                print(f"  step {step:4d}  loss {mean:.3f}  {seconds:.0f} s", flush=True)
                shown.clear()

    save(model, Path(args.out) / name)


def save(model, folder):
    """Writes adapter_config.json and adapter_model.safetensors, the weights as bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config["default"]
    config.inference_mode = True
    fields = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in config.to_dict().items()
    }
    text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")

    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    weights = {key: value.to("cpu", torch.bfloat16).contiguous() for key, value in weights.items()}
    file = folder / "adapter_model.safetensors"
    file.write_bytes(serialize(weights, metadata={"format": "pt"}))
    print(f"  wrote {file} ({file.stat().st_size / 1e6:.2f} MB)", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Trains the demo LoRA adapters.")
    parser.add_argument("--gguf", required=True, help="the base model as a GGUF file")
    parser.add_argument("--out", required=True, help="folder that gets one folder an adapter")
    parser.add_argument("--adapter", choices=sorted(ADAPTERS), help="train this one only")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, help="instead of the recipe's own")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's own")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--max-steps", type=int, help="stop early, to try the script out")
    args = parser.parse_args()
    for name in [args.adapter] if args.adapter else ADAPTERS:
        train(name, args)


if __name__ == "__main__":
    main()
