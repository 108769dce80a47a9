#!/usr/bin/env python3
"""Measures llama.cpp on the same model and adapters, as a baseline to compare with.

    python -m pip install llama-cpp-python gguf
    python scripts/bench-llamacpp.py --gguf FILE --adapters examples/adapters

Prints one line of JSON; every figure is tokens per second, the median over --repeats:

decode            one stream without an adapter: --tokens tokens after a short prompt
decode_adapter    the same with an adapter
prefill           a prompt of --prompt-tokens tokens in one batch, without an adapter
streams_adapters  --streams streams, each with an adapter of its own: short prompt, then --tokens
                  tokens; all generated tokens over the whole time
streams_base      as many streams without any adapter, decoded together in one batch

llama.cpp applies one set of adapters to a whole batch, so streams with different adapters can't
share one: streams_adapters runs them one after another and switches the adapter in between, which
is the fewest switches possible. streams_base is what batching gives where no adapter differs.

llama.cpp reads adapters as GGUF files; the PEFT folders are converted into a temporary folder
first. With more streams than adapters the adapters are loaded several times under other names.
"""

import argparse
import ctypes
import json
import os
import re
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import gguf
import llama_cpp as llama
import numpy as np

PROMPT = "Tell me about the moon."
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TENSOR = re.compile(r"base_model\.model\.(model\.layers\.(\d+)\.(.+))\.lora_([AB])\.weight")


# --- PEFT to GGUF ---------------------------------------------------------------------------


def by_pattern(patterns, module, default):
    """PEFT's rank_pattern and alpha_pattern: a key is a regular expression for the name's end."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def interleave(rows, heads):
    """The row order of q and k in a llama GGUF: rotary pairs side by side, not in two halves."""
    pairs = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def convert(folder, file, heads, kv_heads):
    """Writes the PEFT adapter in `folder` as a GGUF file. The scale is folded into B."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("use_dora") or config.get("modules_to_save"):
        raise SystemExit(f"{folder}: DoRA and modules_to_save are not supported here")
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 0.0)  # 0: B holds the whole scale
    for name, values in read_tensors(folder / "adapter_model.safetensors").items():
        match = TENSOR.fullmatch(name)
        if not match or match[3] not in GGUF_NAMES:
            raise SystemExit(f"{folder}: unexpected tensor {name}")
        module, layer, kind, side = match.groups()
        if side == "B":
            rank = by_pattern(config.get("rank_pattern"), module, config["r"])
            alpha = by_pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
            values = values * (alpha / (rank**0.5 if config.get("use_rslora") else rank))
            if kind == "self_attn.q_proj":
                values = interleave(values, heads)
            elif kind == "self_attn.k_proj":
                values = interleave(values, kv_heads)
        target = f"blk.{layer}.{GGUF_NAMES[kind]}.weight.lora_{side.lower()}"
        writer.add_tensor(target, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_tensors(file):
    """All tensors of a safetensors file as float32; NumPy itself has no bfloat16."""
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        part = data[8 + size + start : 8 + size + end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(part, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(part, {"F16": "<f2", "F32": "<f4"}[entry["dtype"]])
        tensors[name] = values.astype(np.float32).reshape(entry["shape"])
    return tensors


# --- llama.cpp ------------------------------------------------------------------------------


class Engine:
    """A model and a context of llama.cpp through its C interface."""

    def __init__(self, file, threads, n_ctx, n_seq):
        llama.llama_backend_init()
        self.quiet = llama.llama_log_callback(lambda level, text, data: None)
        llama.llama_log_set(self.quiet, ctypes.c_void_p(0))
        model_params = llama.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(str(file).encode(), model_params)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {file}")
        params = llama.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = n_seq
        params.n_threads = params.n_threads_batch = threads
        if hasattr(params, "kv_unified"):
            params.kv_unified = True
        self.context = llama.llama_init_from_model(self.model, params)
        self.memory = llama.llama_get_memory(self.context)
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.vocab_size = llama.llama_vocab_n_tokens(self.vocab)
        self.greedy = llama.llama_sampler_init_greedy()
        self.batch = llama.llama_batch_init(512, 0, 1)

    def tokenize(self, text):
        data = text.encode()
        tokens = (llama.llama_token * (len(data) + 8))()
        count = llama.llama_tokenize(
            self.vocab, data, len(data), tokens, len(tokens), False, True
        )
        return list(tokens[:count])

    def text(self, tokens):
        buffer, data = ctypes.create_string_buffer(256), b""
        for token in tokens:
            size = llama.llama_token_to_piece(self.vocab, token, buffer, 256, 0, False)
            data += buffer.raw[: max(size, 0)]
        return data.decode(errors="replace")

    def load_adapter(self, file):
        adapter = llama.llama_adapter_lora_init(self.model, str(file).encode())
        if not adapter:
            raise SystemExit(f"llama.cpp cannot load the adapter {file}")
        return adapter

    def use(self, adapter):
        """Makes one adapter, or none, the one that later batches run with."""
        if hasattr(llama, "llama_set_adapters_lora"):
            # The interface of newer versions: the whole set at once.
            kind = llama.llama_cpp.llama_adapter_lora_p_ctypes
            count = 1 if adapter else 0
            handles = (kind * 1)(ctypes.cast(adapter, kind) if adapter else None)
            scales = (ctypes.c_float * 1)(1.0)
            failed = llama.llama_set_adapters_lora(self.context, handles, count, scales)
        else:
            llama.llama_clear_adapter_lora(self.context)
            failed = adapter and llama.llama_set_adapter_lora(self.context, adapter, 1.0)
        if failed:
            raise SystemExit("llama.cpp refused the adapter")

    def clear(self):
        llama.llama_memory_clear(self.memory, True)

    def decode(self, entries):
        """Runs (token, position, sequence, wants logits) through the model."""
        batch = self.batch
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, logits) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = logits
        if llama.llama_decode(self.context, batch):
            raise SystemExit("llama_decode failed")

    def prefill(self, tokens, sequence=0):
        last = len(tokens) - 1
        self.decode([(token, i, sequence, i == last) for i, token in enumerate(tokens)])
        return self.sample(last)

    def sample(self, index):
        return llama.llama_sampler_sample(self.greedy, self.context, index)

    def generate(self, token, position, count):
        """`count` greedy tokens after `token`; the end token doesn't stop it."""
        tokens = []
        for i in range(count):
            self.decode([(token, position + i, 0, True)])
            token = self.sample(0)
            tokens.append(token)
        return tokens


# --- the measurements -----------------------------------------------------------------------


def median_rate(repeats, tokens, run):
    """Tokens per second, the median after one run to warm up; `run` returns the seconds."""
    run()
    return round(statistics.median(tokens / run() for _ in range(repeats)), 1)


def decode_rate(engine, args, prompt, adapter):
    def run():
        engine.use(adapter)
        engine.clear()
        token = engine.prefill(prompt)
        start = time.perf_counter()
        engine.generate(token, len(prompt), args.tokens)
        return time.perf_counter() - start

    return median_rate(args.repeats, args.tokens, run)


def prefill_rate(engine, args, prompt):
    tokens = (prompt * (args.prompt_tokens // len(prompt) + 1))[: args.prompt_tokens]

    def run():
        engine.use(None)
        engine.clear()
        start = time.perf_counter()
        engine.prefill(tokens)
        return time.perf_counter() - start

    return median_rate(args.repeats, len(tokens), run)


def adapter_streams_rate(engine, args, prompt, adapters):
    def run():
        start = time.perf_counter()
        for adapter in adapters:
            engine.use(adapter)
            engine.clear()
            token = engine.prefill(prompt)
            engine.generate(token, len(prompt), args.tokens - 1)
        return time.perf_counter() - start

    return median_rate(args.repeats, len(adapters) * args.tokens, run)


def base_streams_rate(engine, args, prompt):
    streams = range(args.streams)

    def run():
        engine.use(None)
        engine.clear()
        start = time.perf_counter()
        tokens = [engine.prefill(prompt, stream) for stream in streams]
        for i in range(args.tokens - 1):
            engine.decode([(tokens[s], len(prompt) + i, s, True) for s in streams])
            tokens = [engine.sample(s) for s in streams]
        return time.perf_counter() - start

    return median_rate(args.repeats, args.streams * args.tokens, run)


def main():
    parser = argparse.ArgumentParser(description="Measures llama.cpp as a baseline.")
    parser.add_argument("--gguf", required=True, type=Path, help="the base model")
    parser.add_argument("--adapters", required=True, type=Path, help="folder of PEFT adapters")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128, help="to generate in each stream")
    parser.add_argument("--prompt-tokens", type=int, default=512, help="to prefill (at most 512)")
    args = parser.parse_args()
    if not 1 <= args.prompt_tokens <= 512:
        parser.error("--prompt-tokens must be from 1 to 512")
    folders = sorted(path.parent for path in args.adapters.glob("*/adapter_config.json"))
    if not folders:
        parser.error(f"no adapters in {args.adapters}")

    fields = gguf.GGUFReader(args.gguf).fields
    heads = int(fields["llama.attention.head_count"].contents())
    kv_heads = int(fields["llama.attention.head_count_kv"].contents())
    engine = Engine(args.gguf, args.threads, 512 + args.streams * (args.tokens + 64), args.streams)
    prompt = engine.tokenize(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        f"<|im_end|>\n<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    )

    adapters = []
    with tempfile.TemporaryDirectory() as work:
        for i in range(args.streams):
            folder = folders[i % len(folders)]
            file = Path(work) / f"{i}-{folder.name}.gguf"
            convert(folder, file, heads, kv_heads)
            adapters.append(engine.load_adapter(file))
    for folder, adapter in zip(folders, adapters):
        engine.use(adapter)
        engine.clear()
        first = engine.prefill(prompt)
        sample = engine.text([first] + engine.generate(first, len(prompt), 24))
        print(f"{folder.name}: {sample!r}", file=sys.stderr)

    result = {
        "engine": f"llama-cpp-python {version('llama-cpp-python')}",
        "model": args.gguf.name,
        "threads": args.threads,
        "repeats": args.repeats,
        "streams": args.streams,
        "tokens": args.tokens,
        "prompt_tokens": args.prompt_tokens,
        "decode": decode_rate(engine, args, prompt, None),
        "decode_adapter": decode_rate(engine, args, prompt, adapters[0]),
        "prefill": prefill_rate(engine, args, prompt),
        "streams_adapters": adapter_streams_rate(engine, args, prompt, adapters),
        "streams_base": base_streams_rate(engine, args, prompt),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
