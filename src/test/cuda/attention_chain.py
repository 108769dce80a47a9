"""Times what lies between a layer's two dense products of a decode step: rotation and attention, in its place in the chain.

usage: attention_chain.py DIRECTORY [MODEL ROWSxLENGTH[:SPLITS,...] ...]    where the fatbins are

Microseconds that it adds to the chain of the two products, which are those of a few rows (matrix_few.cu). The weights of the
LAYERS layers, taken in turn, are larger than the L2, so that keys and values come from memory as they do in a step.
"""

import sys

import torch

import attention
import gpu

LAYERS = 5
# hidden, heads, kv heads, dim, norms, sinks
MODELS = {"qwen3": (2048, 32, 4, 128, True, False), "gpt_oss": (2880, 64, 8, 64, False, True)}


class Chain:
    def __init__(self, directory, model, rows, length, window=0):
        self.hidden, self.heads, self.kv_heads, self.dim, self.norm, self.sinks = MODELS[model]
        self.name, self.rows, self.length, self.window = model, rows, length, window
        files = {"rope": "rope", "decode": "attention_decode", "few": "matrix_few"}
        self.modules = {key: gpu.Module(f"{directory}/{name}.fatbin") for key, name in files.items()}
        self.batch = attention.Batch([length] * rows, [1] * rows, 16, bucket=True)
        self.q_width, self.kv_width = self.heads * self.dim, self.kv_heads * self.dim
        width = self.q_width + 2 * self.kv_width
        weight = lambda *s: torch.empty(*s, device="cuda", dtype=torch.bfloat16).normal_(0, s[-1] ** -0.5)
        self.into = [weight(width, self.hidden) for _ in range(LAYERS)]
        self.back = [weight(self.hidden, self.q_width) for _ in range(LAYERS)]
        self.caches = [attention.new_cache(self.batch, self.kv_heads, self.dim, "normal") for _ in range(LAYERS)]
        self.x = weight(rows, self.hidden)
        self.qkv = weight(rows, width)

    def product(self, x, w, y):
        n, k = w.shape
        warps = 8 if k >= 4096 else 4
        self.modules["few"].kernel(f"matrix_few_{warps}_1")((-(-n // 16),), warps * 32, [
            x, ("l", x.stride(0)), self.rows, w, None, n, k, y, ("l", y.stride(0)), 0], dependent=True)

    def call(self, fused, splits=None, part=None):
        """Attention on columns of the product's result."""
        rope = attention.Rope(self.batch, self.kv_heads, self.dim, norm=self.norm)
        call = attention.Attention(self.modules, self.batch, self.heads, self.kv_heads, self.dim, self.window, self.sinks,
                                   splits, part=part, rope=rope if fused else None)
        for rows, at, width in ((call.q, 0, self.q_width), (rope.k, self.q_width, self.kv_width),
                                (rope.v, self.q_width + self.kv_width, self.kv_width)):
            rows.memory, rows.stride = self.qkv[:, at : at + width], self.qkv.stride(0)
        return call if fused else lambda cache: (rope.store(self.modules, call, cache), call(cache))

    def time(self, call):
        y = self.x.clone()
        attended = torch.zeros(self.rows, self.q_width, device="cuda", dtype=torch.bfloat16)

        def body():
            for _ in range(3):
                for i in range(LAYERS):
                    self.product(y, self.into[i], self.qkv)
                    if call is not None:
                        call(self.caches[i])
                    self.product(attended, self.back[i], y)
        return gpu.median_us(gpu.capture(body), 3 * LAYERS, 15)


def main():
    sizes = sys.argv[3:] or ["1x128", "1x512", "1x1024", "1x2048", "1x8192", "8x1024", "32x1024"]
    for model in [sys.argv[2]] if len(sys.argv) > 2 else MODELS:
        for size in sizes:
            size, _, cuts = size.partition(":")
            rows, length = (int(n) for n in size.split("x"))
            chain = Chain(sys.argv[1], model, rows, length)
            empty = chain.time(None)
            print(f"{model} {rows} x {length}: products {empty:.2f}", flush=True)
            for splits in [int(n) for n in cuts.split(",")] if cuts else [None]:
                two, fused = chain.time(chain.call(False, splits)), chain.time(chain.call(True, splits))
                print(f"  splits {splits or 'as chosen'}: two kernels {two - empty:6.2f}, one {fused - empty:6.2f}", flush=True)


if __name__ == "__main__":
    main()
