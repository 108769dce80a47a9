#!/usr/bin/env python3
"""Gives a dense model's adapter to the experts of the mixture that `infinilora upcycle` made of it.

    python3 spread_adapter.py ../adapters/haiku haiku --experts 4
    python3 spread_adapter.py ../adapters/haiku haiku-some --experts 4 --only 0 2

Each pair of the MLP becomes one pair per expert, under mixtral's names; those of attention stay as
they are. Needs nothing but Python.
"""

import argparse
import json
import re
import struct
from pathlib import Path

PROJECTIONS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
MLP = re.compile(r"(.*\.layers\.\d+)\.mlp\.(gate_proj|up_proj|down_proj)\.(lora_[AB]\.weight)")


def read(path):
    """Tensors of a safetensors file by name: dtype, shape, bytes."""
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {
        name: (entry["dtype"], entry["shape"], data[start:][slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


def write(path, tensors):
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        end = offset + len(data)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(data for _, _, data in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def spread(tensors, experts):
    result = {}
    for name, tensor in tensors.items():
        match = MLP.fullmatch(name)
        if not match:
            result[name] = tensor
            continue
        layer, projection, factor = match.groups()
        for expert in experts:
            module = f"block_sparse_moe.experts.{expert}.{PROJECTIONS[projection]}"
            result[f"{layer}.{module}.{factor}"] = tensor
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--experts", type=int, required=True, help="as given to upcycle")
    parser.add_argument("--only", type=int, nargs="+", help="these experts; all if not given")
    args = parser.parse_args()
    config = json.loads((args.adapter / "adapter_config.json").read_text())
    if config["rank_pattern"] or config["alpha_pattern"]:
        parser.error("an adapter with rank_pattern or alpha_pattern would need new patterns")
    config["target_modules"] = [PROJECTIONS.get(m, m) for m in config["target_modules"]]
    tensors = spread(read(args.adapter / "adapter_model.safetensors"), args.only or range(args.experts))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    write(args.out / "adapter_model.safetensors", tensors)


if __name__ == "__main__":
    main()
