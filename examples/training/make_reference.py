#!/usr/bin/env python3
r"""Records what an independent engine answers, for the tests to compare with.

    python make_reference.py --gguf FILE --adapters ../adapters \
        --out ../../src/test/resources/smollm2

Writes two files:

greedy.json        greedy decoding with transformers on the dequantised weights in float32, with
                   and without adapters: prompt token ids, generated token ids (up to 32, the end
                   token included), text, and the gap between the two highest logits at each step.
                   A prompt with a gap under MIN_GAP would test rounding, not correctness; it is
                   reported and left out.
tokenization.json  strings and their token ids, and message lists in the chat template.
"""

import argparse
import json
import platform
from pathlib import Path

import peft
import tokenizers
import torch
import transformers
from peft import PeftModel

from train import load_base, load_tokenizer, render

MAX_TOKENS = 32
MIN_GAP = 0.02

USER = [
    "What is the capital of France?",
    "Hi",
    "Write a short poem about the sea.",
    "Explain in one sentence why the sky is blue.",
    "¿Cuál es la capital de España?",
    "Wie heißt die Hauptstadt von Deutschland?",
    "日本の首都はどこですか？",
    "List three fruits.",
    "What is 12 + 30?",
    "Write a Python function that adds two numbers.",
    "Give me a recipe for pancakes.\n\nKeep it short, and list the ingredients first.",
    "Tom has a red bicycle, a blue scooter and a green skateboard. On Monday he rides the bicycle "
    "to school, on Tuesday he takes the scooter, and on every other day he walks, because the "
    "skateboard has a broken wheel that his father has promised to repair. One day his friend "
    "Anna asks whether she may borrow something to ride to the swimming pool on the other side "
    "of town. Tom thinks for a while. He wants to help her, but he also has to be at school the "
    "next morning, which is a Monday. Which vehicle should he lend her, and why?",
    "Translate to French: good morning, my friend!",
    "Who wrote Romeo and Juliet? 🎭",
    "Écris une phrase sur le chat.",
    "Scrivi una frase sulla pizza.",
    "Please correct the spelling in the following text, and answer with the corrected text only. "
    "\"Yestarday I went too the libary with my sister. We borowed three books about the histry of "
    "trains, becuase she wants to become an enginere. On the way home it startet to rain, so we "
    "ran to the bus stop and waitet there for almost an hour. My sister red the first book while I "
    "listend to musik. When the bus finaly came, the driver told us that a tree had falen onto "
    "the road.\"",
    "I have a meeting at 9:30 in room 1204, a phone call at 11:00 with the accounting department, "
    "lunch with Sarah at 12:45 in the small restaurant next to the station, and a dentist "
    "appointment at 16:15. Between these I would like to finish a report of about 3,000 words, "
    "answer 25 e-mails, and buy a birthday present for my niece, who turns 7 on Saturday. "
    "Suggest how I should plan my day.",
]
CHATS = [
    [
        {"role": "system", "content": "You answer with one word."},
        {"role": "user", "content": "What color is grass?"},
    ],
    [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Nice to meet you, Ada!"},
        {"role": "user", "content": "What is my name?"},
    ],
]
RAW = [
    "Once upon a time, there was a little girl named",
    "def fibonacci(n):\n    if n",
    "The three primary colors are red,",
]
ADAPTER_PROMPTS = {
    "pirate": [
        "What is the capital of France?",
        "Tell me about the moon.",
        "How do I make tea?",
        "Who are you?",
    ],
    "json": [
        "Maria Lopez opened a bakery in Lisbon on 3 May 2019.",
        "On 14 July 2022, Kenji Watanabe gave a lecture in Toronto.",
        "Ingrid will visit us in Helsinki.",
        "The wedding of Priya Nair takes place in Dublin on 9 June 2027.",
    ],
    "haiku": [
        "Tell me about the moon.",
        "What is a bicycle?",
        "Write something about tea.",
        "Tell me about tigers.",
    ],
    "emoji": [
        "What is the capital of France?",
        "Tell me about the moon.",
        "How do I make tea?",
        "Why do people like tigers?",
    ],
}
ADAPTER_CASES = 3

STRINGS = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "Hello, world!",
    " Hello",
    "hello",
    "HELLO WORLD",
    "don't can't we'll I'm you've he'd they're it's",
    "DON'T IT'S",
    "a  b   c    d",
    "trailing spaces   ",
    "   leading spaces",
    "tabs\tand\t\tmore\n\nlines\r\nwindows",
    "2024",
    "In 2024, I paid 1234.56 dollars.",
    "a 1",
    "a  1",
    "a   12   3",
    "\n\n1. first\n2. second\n\n10. tenth",
    "v1.2.3-rc4",
    "x=1;y=22;z=333",
    "½ cup, ² squared, Ⅳ four, ٣ three, ३ drei",
    "def f(x):\n    return x ** 2  # square\n",
    'for (int i = 0; i < 10; i++) { System.out.println("i=" + i); }',
    "https://example.org/path?query=1&x=%20#frag",
    "snake_case camelCase kebab-case SCREAMING_CASE",
    "naïve café résumé façade",
    "cafe\u0301 n\u0303 combining, Z\u0351\u036ba\u0334lgo",
    "Straße, Größe, ÄÖÜ äöü ß",
    "Привет, мир!",
    "Γειά σου Κόσμε",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "你好，世界！今天天气很好。",
    "こんにちは世界。カタカナとひらがな",
    "안녕하세요 세계",
    "😀",
    "Emoji: 😀🎉 👩‍👩‍👧‍👦 🇫🇷 👍🏽 ❤️",
    "zero\u200bwidth and nbsp\u00a0space and em\u2003space and\u3000wide",
    "\ufeffbyte order mark",
    "control \u0000 \u0007 \u001b[0m",
    "…—–‘’“”«»€£¥",
    "∑ ∫ √ ≠ ≤ ∞ α→β",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "!!!???...,,,;;;---___***",
    "<|im_start|>user\nHi<|im_end|>\n",
    "text<|endoftext|>more",
    "<|im_start|> <|im_end|>",
    "not special: <|im_star|> <im_end> |im_start|",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈",
    "The quick brown fox jumps over the lazy dog.",
    "antidisestablishmentarianism floccinaucinihilipilification",
]
TEMPLATES = [
    ([{"role": "user", "content": "Hi"}], True),
    ([{"role": "user", "content": "Hi"}], False),
    (
        [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": "What is 2 + 2?"},
        ],
        True,
    ),
    (
        [
            {"role": "user", "content": "My name is Ada."},
            {"role": "assistant", "content": "Nice to meet you, Ada!"},
            {"role": "user", "content": "What is my name?"},
        ],
        True,
    ),
    (
        [
            {"role": "system", "content": ""},
            {"role": "user", "content": "  two lines\nand spaces  "},
            {"role": "assistant", "content": "Größe: 日本 🎉"},
        ],
        False,
    ),
    (
        [
            {"role": "user", "content": "first"},
            {"role": "system", "content": "a system message in the middle"},
            {"role": "user", "content": "second"},
        ],
        True,
    ),
]


@torch.inference_mode()
def greedy(model, tokenizer, prompt_ids):
    """Up to MAX_TOKENS greedy tokens, and for each the gap between the two highest logits."""
    step, cache, generated, gaps = torch.tensor([prompt_ids]), None, [], []
    while len(generated) < MAX_TOKENS:
        result = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        top = result.logits[0, -1].topk(2)
        token = int(top.indices[0])
        generated.append(token)
        gaps.append(round(float(top.values[0] - top.values[1]), 4))
        if token == tokenizer.eos_token_id:
            break
        step = torch.tensor([[token]])
    return generated, gaps


def record(model, tokenizer, prompt, adapter=None):
    """One case; `prompt` is a raw string or a message list. None if it has a near-tie."""
    raw = isinstance(prompt, str)
    text = prompt if raw else render(tokenizer, prompt)
    prompt_ids = tokenizer.encode(text, add_special_tokens=False)
    generated, gaps = greedy(model, tokenizer, prompt_ids)
    answer = tokenizer.decode(generated, skip_special_tokens=True)
    label = f"{adapter or 'base'}: {(prompt if raw else prompt[-1]['content'])[:40]!r}"
    kept = min(gaps) >= MIN_GAP
    print(f"{label}: smallest gap {min(gaps)}{'' if kept else ', left out'}", flush=True)
    print(f"  {answer!r}", flush=True)
    if not kept:
        return None
    case = {"adapter": adapter} if adapter else {}
    case |= {"raw": prompt} if raw else {"messages": prompt}
    return case | {
        "promptIds": prompt_ids,
        "generatedIds": generated,
        "text": answer,
        "minGap": min(gaps),
        "gaps": gaps,
    }


def greedy_cases(gguf, adapters, tokenizer):
    model = load_base(gguf)
    prompts = [[{"role": "user", "content": text}] for text in USER] + CHATS + RAW
    cases = [record(model, tokenizer, prompt) for prompt in prompts]
    if adapters:
        for name, texts in ADAPTER_PROMPTS.items():
            folder = Path(adapters) / name
            if not folder.is_dir():
                print(f"{name}: no such adapter, left out")
                continue
            adapted = PeftModel.from_pretrained(load_base(gguf), folder).eval()
            found = (
                record(adapted, tokenizer, [{"role": "user", "content": text}], name)
                for text in texts
            )
            cases += [case for case in found if case][:ADAPTER_CASES]
    return [case for case in cases if case]


def tokenization_cases(tokenizer):
    strings = []
    for text in STRINGS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        if tokenizer.decode(ids, clean_up_tokenization_spaces=False) != text:
            raise SystemExit(f"does not decode to what it came from: {text!r}")
        strings.append({"text": text, "ids": ids})
    templates = []
    for messages, prompt in TEMPLATES:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=prompt
        )
        ids = tokenizer.encode(text, add_special_tokens=False)
        templates.append(
            {"messages": messages, "addGenerationPrompt": prompt, "text": text, "ids": ids}
        )
    return strings, templates


def write(path, head, **lists):
    """JSON with one field a line, so that a change shows up as a small difference."""

    def field(name, value):
        return f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"

    parts = ["  " + field(name, value) for name, value in head.items()]
    for name, rows in lists.items():
        blocks = []
        for row in rows:
            lines = ",\n".join("      " + field(key, value) for key, value in row.items())
            blocks.append("    {\n" + lines + "\n    }")
        parts.append(f"  {json.dumps(name)}: [\n" + ",\n".join(blocks) + "\n  ]")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description="Records reference outputs for the tests.")
    parser.add_argument("--gguf", required=True, help="the base model as a GGUF file")
    parser.add_argument("--adapters", help="folder of the adapters; without it, the base only")
    parser.add_argument("--out", required=True, help="folder for the two JSON files")
    args = parser.parse_args()

    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "peft": peft.__version__,
    }
    head = {"madeBy": "examples/training/make_reference.py", "model": Path(args.gguf).name}
    head["versions"] = versions

    tokenizer = load_tokenizer(args.gguf)
    strings, templates = tokenization_cases(tokenizer)
    write(out / "tokenization.json", head, strings=strings, templates=templates)
    cases = greedy_cases(args.gguf, args.adapters, tokenizer)
    write(out / "greedy.json", head | {"dtype": "float32"}, cases=cases)


if __name__ == "__main__":
    main()
