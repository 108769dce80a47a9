#!/usr/bin/env python3
"""Prints, as Markdown, what the base model and each adapter answer to the same prompts.

    python side_by_side.py --gguf FILE --adapters ../adapters

Greedy decoding in float32, at most 64 tokens. None of the prompts is in the training data.
"""

import argparse
from pathlib import Path

import torch
from peft import PeftModel

from train import load_base, load_tokenizer, render

PROMPTS = [
    "What is the capital of France?",
    "Tell me about the moon.",
    "How do I make tea?",
    "Why do people like tigers?",
    "Who are you?",
    "What is a bicycle?",
    "Maria Lopez opened a bakery in Lisbon on 3 May 2019.",
    "On 14 July 2022, Kenji Watanabe gave a lecture in Toronto.",
    "The wedding of Priya Nair takes place in Dublin on 9 June 2027.",
    "Ingrid lives in Helsinki.",
]


@torch.inference_mode()
def answer(model, tokenizer, prompt):
    text = render(tokenizer, [{"role": "user", "content": prompt}])
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(model.device)
    result = model.generate(**ids, max_new_tokens=64, do_sample=False)[0]
    ids = result[ids["input_ids"].shape[1] :].tolist()
    cut = tokenizer.eos_token_id not in ids
    return tokenizer.decode(ids, skip_special_tokens=True).strip() + (" …" if cut else "")


def main():
    parser = argparse.ArgumentParser(description="Answers with and without each adapter.")
    parser.add_argument("--gguf", required=True, help="the base model as a GGUF file")
    parser.add_argument("--adapters", required=True, help="folder with one folder an adapter")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    tokenizer = load_tokenizer(args.gguf)
    model = load_base(args.gguf).to(args.device)
    answers = {"base": [answer(model, tokenizer, prompt) for prompt in PROMPTS]}
    for folder in sorted(Path(args.adapters).iterdir()):
        if not (folder / "adapter_config.json").exists():
            continue
        adapted = PeftModel.from_pretrained(model, folder).eval()
        answers[folder.name] = [answer(adapted, tokenizer, prompt) for prompt in PROMPTS]
        model = adapted.unload()

    for i, prompt in enumerate(PROMPTS):
        print(f"### {prompt}\n\n| | answer |\n| --- | --- |")
        for name, given in answers.items():
            text = given[i].replace("|", "\\|").replace("\n", "<br>")
            print(f"| {'base' if name == 'base' else f'`{name}`'} | {text} |")
        print()


if __name__ == "__main__":
    main()
