"""Times a decode layer's chain of kernels without attention, for which three norms stand, in a graph.

usage: chain.py DIRECTORY MODEL ROWS...    DIRECTORY: where the fatbins are; MODEL: qwen or gpt

Weights of several layers take turns, so that the L2 has none of them. A variant's output is compared with the first one's.
"""

import sys

import torch

import gpu

MODELS = {"qwen": dict(hidden=2048, e=128, top_k=8, inner=768, layers=5, bias=False, first=1, activation=0),
          "gpt": dict(hidden=2880, e=32, top_k=4, inner=2880, layers=4, bias=True, first=0, activation=1)}
QKV, Q = 5120, 4096
ROUTER_SHARED = 70784


def bf16(*shape):
    return torch.empty(*shape, device="cuda", dtype=torch.bfloat16).normal_(0, shape[-1] ** -0.5)


class Layer:
    def __init__(self, m):
        h, e, inner = m["hidden"], m["e"], m["inner"]
        bias = lambda *shape: torch.randn(*shape, device="cuda") if m["bias"] else None
        self.qkv, self.o, self.router, self.up, self.down = bf16(QKV, h), bf16(h, Q), bf16(e, h), bf16(e, 2 * inner, h), bf16(e, h, inner)
        self.qkv_bias, self.o_bias, self.router_bias, self.up_bias, self.down_bias = (
            bias(QKV), bias(h), bias(e), bias(e, 2 * inner), bias(e, h))


class Buffers:
    def __init__(self, m, rows):
        h, routed, inner = m["hidden"], rows * m["top_k"], m["inner"]
        zeros = lambda *shape, dtype=torch.bfloat16: torch.zeros(*shape, device="cuda", dtype=dtype)
        ints = lambda n: zeros(n, dtype=torch.int32)
        self.residual = torch.randn(rows, h, device="cuda")
        self.normed, self.qkv, self.attended, self.o, self.out = (zeros(rows, n) for n in (h, QKV, Q, h, h))
        self.pair, self.terms = zeros(routed, 2 * inner), zeros(routed, h, dtype=torch.float32)
        self.experts, self.weights = ints(routed), zeros(routed, dtype=torch.float32)
        self.plan = [ints(m["e"] + 1), ints(routed), ints(m["e"] + 1)]


class Chain:
    def __init__(self, directory, model):
        self.modules, self.kernels, self.directory = {}, {}, directory
        self.m = MODELS[model]
        self.layers = [Layer(self.m) for _ in range(self.m["layers"])]
        self.ones = torch.ones(Q, device="cuda")

    def kernel(self, module, name, shared=0):
        if module not in self.modules:
            self.modules[module] = gpu.Module(f"{self.directory}/{module}.fatbin")
        if name not in self.kernels:
            self.kernels[name] = self.modules[module].kernel(name, shared)
        return self.kernels[name]

    def norm(self, x, y, out, cols):
        residual = [None, ("l", 0), 1] if y is None else [y, ("l", y.stride(0)), 1]
        self.kernel("elements", "norm_1")([x.shape[0]], 256 if cols <= 2048 else 384, [
            x, ("l", x.stride(0)), 0, *residual, self.ones, cols, 1e-6, 0, out, ("l", out.stride(0)), 0], dependent=True)

    def dense(self, x, w, bias, y):
        rows, (n, k) = x.shape[0], w.shape
        if rows > 16:
            torch.mm(x, w.T, out=y)
            if bias is not None:
                self.kernel("matrix_few", "add_bias")([-(-n // 2048), rows], 256, [y, ("l", n), n, bias, 0], dependent=True)
            return
        warps = 8 if k >= 4096 else 4
        self.kernel("matrix_few", f"matrix_few_{warps}_1")([-(-n // 16)], warps * 32, [
            x, ("l", x.stride(0)), rows, w, bias, n, k, y, ("l", y.stride(0)), 0], dependent=True)

    def experts(self, s, x, choices, w, bias, y, warps):
        (e, n, k), routed = w.shape, s.experts.numel()
        name = "experts_one" if routed <= 8 * self.m["top_k"] else "experts_few"
        self.kernel("matrix_few", f"{name}_{warps}_1")([-(-n // 16), min(e, routed)], warps * 32, [
            x, ("l", x.stride(0)), choices, w, bias, n, k, *s.plan, y, ("l", y.stride(0)), y.dtype == torch.float32], dependent=True)

    def experts_row(self, s, x, up, w, bias, y, warps):
        _, n, k = w.shape
        source = [x, ("l", 0)] if up is None else [x, up, ("l", x.stride(0)), self.m["activation"]]
        self.kernel("experts_row", f"experts_{'row' if up is None else 'gated'}_{warps}")([-(-n // 16), self.m["top_k"]], warps * 32, [
            *source, w, bias, n, k, s.experts, y, ("l", y.stride(0)), y.dtype == torch.float32], dependent=True)

    def layer(self, s, l, up_warps, down_warps, row):
        m, rows = self.m, s.normed.shape[0]
        h, inner, top_k = m["hidden"], m["inner"], m["top_k"]
        self.norm(s.out, s.residual, s.normed, h)
        self.dense(s.normed, l.qkv, l.qkv_bias, s.qkv)
        for _ in range(2):
            self.norm(s.qkv[:, :2048], None, s.attended[:, :2048], 2048)
        self.norm(s.qkv[:, 2048:4096], None, s.attended[:, 2048:], 2048)
        self.dense(s.attended, l.o, l.o_bias, s.o)
        self.norm(s.o, s.residual, s.normed, h)
        blocks = -(-m["e"] // 16)
        self.kernel("router", "route_from", ROUTER_SHARED)([blocks], 512, [
            s.normed, ("l", h), rows, l.router, l.router_bias, h, None, m["e"], top_k, m["first"], m["first"], s.experts, s.weights,
            *s.plan], cluster=blocks, dependent=True)
        other = s.pair[:, inner:]
        if row:
            self.experts_row(s, s.normed, None, l.up, l.up_bias, s.pair, up_warps)
            self.experts_row(s, s.pair, other, l.down, l.down_bias, s.terms, down_warps)
        else:
            self.experts(s, s.normed, top_k, l.up, l.up_bias, s.pair, up_warps)
            pair = lambda v: [v, ("l", 2 * inner), 0]
            self.kernel("elements", "gated_activation")([-(-rows * top_k * inner // 2048)], 256, [
                m["activation"], *pair(s.pair), *pair(other), rows * top_k, inner, *pair(s.pair)], dependent=True)
            self.experts(s, s.pair, 1, l.down, l.down_bias, s.terms, down_warps)
        self.kernel("matrix_few", "experts_combine")([-(-h // 1024), rows], 128, [
            s.terms, ("l", h), s.experts, s.weights, top_k, h, s.out, ("l", h), 0], dependent=True)

    def time(self, rows, *variant):
        torch.manual_seed(7)
        s = Buffers(self.m, rows)
        turns = 3 if rows == 1 else 1
        body = lambda: [self.layer(s, l, *variant) for _ in range(turns) for l in self.layers]
        us = gpu.median_us(gpu.capture(body), turns * len(self.layers))
        torch.manual_seed(7)
        s = Buffers(self.m, rows)
        for l in self.layers[:2]:
            self.layer(s, l, *variant)
        torch.cuda.synchronize()
        return us, s.out.float()


def main(directory, model, *rows):
    torch.mm(bf16(64, 64), bf16(64, 64))  # cuBLAS must not begin within a graph
    chain = Chain(directory, model)
    inner = chain.m["inner"]
    for count in map(int, rows):
        first = None
        variants = [("plan", 4, 2 if inner < 1024 else 4, False)]
        if count == 1:
            variants += [("row", 4 if inner < 1024 else 8, 2 if inner < 1024 else 8, True)] + variants
        for name, *variant in variants:
            us, out = chain.time(count, *variant)
            first = out if first is None else first
            difference = ((out - first).abs().max() / first.abs().max()).item()
            print(f"{model} rows {count:2} {us:8.2f} us per layer  {name} {variant}, difference {difference:.1e}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
