"""Makes quant-blocks.txt: random blocks of each GGUF type and what the `gguf` package (PyPI) decodes them to.

    pip install gguf==0.19.0 numpy && python make_quant_blocks.py > quant-blocks.txt

One line per tensor: type, bytes as hex, decoded float32 as hex (little-endian).
"""
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

SIZES = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}

rng = np.random.default_rng(7)
for name, size in SIZES.items():
    for scale in (0.013, -1.7, 3e-6):
        block = rng.integers(0, 256, size, dtype=np.uint8)
        for at in HALVES[name]:
            block[at : at + 2] = np.frombuffer(np.float16(scale * rng.uniform(0.5, 1)).tobytes(), np.uint8)
        decoded = quants.dequantize(block.reshape(1, -1), T[name]).astype("<f4")
        print(name, block.tobytes().hex(), decoded.tobytes().hex())
for exponent in (121, 140, 0):
    block = rng.integers(0, 256, 17, dtype=np.uint8)
    block[0] = exponent
    decoded = quants.dequantize(block.reshape(1, -1), T.MXFP4).astype("<f4")
    print("MXFP4", block.tobytes().hex(), decoded.tobytes().hex())
