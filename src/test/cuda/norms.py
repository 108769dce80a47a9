"""Checks norms within other kernels (router.cu, combine_norm.cu): against the kernels in sequence, and PyTorch.

usage: norms.py DIRECTORY    where the fatbins are
"""

import sys

import torch

import gpu

failed = 0
SPACE, NORM_SPACE, ROW_PADDING = 70784, 18112, 32


def report(name, error, limit=0):
    global failed
    if not error <= limit:
        failed += 1
        if failed < 40:
            print(f"FAILED {name}: error {error:.3g}, limit {limit:.3g}", flush=True)


def up8(n):
    return -(-n // 8) * 8


def matrix(rows, cols, dtype, scale=1.0):
    """Random, with padding of zeros and 8 more columns between rows."""
    m = torch.zeros(rows, up8(cols) + 8, device="cuda", dtype=dtype)
    m[:, :cols] = torch.randn(rows, cols, device="cuda") * scale
    return m


def wide(m):
    return m.dtype == torch.float32


def arg(m):
    return [m, ("l", m.stride(0)), wide(m)]


class Kernels:
    def __init__(self, directory):
        module = lambda name: gpu.Module(f"{directory}/{name}.fatbin")
        elements, router = module("elements"), module("router")
        self.norms = {n: elements.kernel(f"norm_{n}") for n in (1, 2, 4, 8)}
        self.combine = module("matrix_few").kernel("experts_combine")
        self.route_from = router.kernel("route_from", SPACE)
        self.fused = router.kernel("norm_route", 64 * 1024)
        self.combine_norm = module("combine_norm").kernel("combine_norm")

    def add_norm(self, x, y, weight, cols, eps, out, rows, dependent=True):
        vectors = up8(cols) // 8
        threads = min(512, -(-vectors // 32) * 32)
        held = -(-vectors // threads)
        kernel = self.norms[1 << (held - 1).bit_length()]
        kernel([rows], threads, arg(x) + arg(y) + [weight, cols, eps, 0] + arg(out), dependent=dependent)

    def route(self, x, rows, w, bias, count, moe, out, dependent=True):
        e, k = w.shape
        blocks = -(-e // 16)
        self.route_from([blocks], 512, [x, ("l", x.stride(0)), rows, w, bias, k, count, e, *moe, *out], cluster=blocks,
                        dependent=dependent)

    def norm_route(self, x, y, weight, cols, eps, normed, rows, w, bias, count, moe, out, dependent=True):
        e, k = w.shape
        blocks = -(-e // 16)
        self.fused([blocks], 256,
                   arg(x) + arg(y) + [weight, cols, eps, normed, ("l", normed.stride(0)), rows, w, bias, k, count, e, *moe, *out],
                   cluster=blocks, dependent=dependent, shared=NORM_SPACE + rows * (k + ROW_PADDING) * 2)

    def sum(self, terms, experts, weights, top_k, cols, out, rows, dependent=True):
        n = up8(cols)
        self.combine([-(-n // 1024), rows], 128, [terms, ("l", terms.stride(0)), experts, weights, top_k, n] + arg(out),
                     dependent=dependent)

    def sum_norm(self, terms, experts, weights, top_k, sum_wide, y, weight, cols, eps, out, rows, dependent=True):
        self.combine_norm([rows], -(-cols // 256) * 32, [terms, ("l", terms.stride(0)), experts, weights, top_k, sum_wide]
                          + arg(y) + [weight, cols, eps] + arg(out), dependent=dependent)


def weights_of(cols):
    w = torch.zeros(up8(cols), device="cuda")
    w[:cols] = 1 + torch.randn(cols, device="cuda") * 0.2
    return w


def choices(rows, top_k, e):
    i = lambda n: torch.full((n,), -7, device="cuda", dtype=torch.int32)
    return [i(rows * top_k), torch.zeros(rows * top_k, device="cuda"), i(e + 1), i(rows * top_k), i(e + 1)]


def same(name, a, b):
    report(name, (a != b).sum().item() if not a.isnan().any() else float("nan"))


def normed_by_torch(name, y, weight, cols, eps, out):
    exact = y[:, :cols].double()
    exact = exact / (exact.square().mean(1, keepdim=True) + eps).sqrt() * weight[:cols]
    report(name + " norm", ((out[:, :cols].double() - exact).abs().max() / exact.abs().max()).item(), 4e-3)
    report(name + " padding", out[:, cols:].float().abs().sum().item())


def check_route(kernels):
    cases = 0
    for rows in (1, 2, 3, 4):
        for cols, e, top_k in ((2048, 128, 8), (2880, 32, 4), (2880, 33, 3), (576, 60, 4), (4096, 8, 2), (4091, 16, 2),
                               (20, 6, 2), (264, 100, 7), (1024, 128, 8), (3208, 64, 6),
                               (1992, 120, 16), (2056, 17, 1)):
            for x_type, y_type in ((torch.bfloat16, torch.float32), (torch.bfloat16, torch.bfloat16),
                                   (torch.float32, torch.float32)):
                if cols != 2048 and rows > 3 and y_type != torch.float32:
                    continue
                k, eps = up8(cols), 1e-5
                x, y0, weight = matrix(rows, cols, x_type), matrix(rows, cols, y_type, 3), weights_of(cols)
                w = matrix(e, cols, torch.bfloat16, cols ** -0.5)[:, :k].contiguous()
                bias = torch.randn(e, device="cuda") if rows % 2 else None
                present = max(1, rows - 2) if rows % 3 == 0 else None
                count = None if present is None else torch.tensor([present], device="cuda", dtype=torch.int32)
                for first, normalise in ((1, 1), (1, 0), (0, 0)):
                    moe = [top_k, first, normalise]
                    y, out, chosen = y0.clone(), matrix(rows, 1, torch.bfloat16).new_zeros(rows, k + 8), choices(rows, top_k, e)
                    kernels.add_norm(x, y, weight, cols, eps, out, rows)
                    kernels.route(out, rows, w, bias, count, moe, chosen)
                    y2, out2, chosen2 = y0.clone(), torch.zeros_like(out), choices(rows, top_k, e)
                    kernels.norm_route(x, y2, weight, cols, eps, out2, rows, w, bias, count, moe, chosen2)
                    name = f"route {rows} x {cols}, {e} top {top_k} {x_type} {y_type} {moe}"
                    same(name + " y", y, y2)
                    same(name + " out", out, out2)
                    normed_by_torch(name, y2, weight, cols, eps, out2)
                    for part, a, b in zip(("experts", "weights", "starts", "sorted", "active"), chosen, chosen2):
                        same(f"{name} {part}", a, b)
                    cases += 1
    print("route cases", cases)


def check_sum(kernels):
    cases = 0
    for rows in (1, 2, 3, 7, 8, 16, 31, 32, 64):
        for cols, top_k in ((2048, 8), (2880, 4), (576, 1), (4096, 2), (4091, 16), (20, 3), (264, 9), (3208, 6)):
            for y_type, sum_type, out_type in ((torch.float32, torch.bfloat16, torch.bfloat16),
                                               (torch.bfloat16, torch.bfloat16, torch.bfloat16),
                                               (torch.float32, torch.float32, torch.float32)):
                eps = 1e-6
                terms, y0, weight = matrix(rows * top_k, cols, torch.float32), matrix(rows, cols, y_type, 3), weights_of(cols)
                experts = torch.randint(0, 8, (rows * top_k,), device="cuda", dtype=torch.int32)
                weights = torch.rand(rows * top_k, device="cuda")
                if rows > 4:
                    experts[-top_k:], weights[-top_k:], terms[-top_k:] = -1, 0, float("nan")
                total, y = matrix(rows, cols, sum_type), y0.clone()
                out = torch.zeros(rows, up8(cols) + 8, device="cuda", dtype=out_type)
                kernels.sum(terms, experts, weights, top_k, cols, total, rows)
                kernels.add_norm(total, y, weight, cols, eps, out, rows)
                y2, out2 = y0.clone(), torch.zeros_like(out)
                kernels.sum_norm(terms, experts, weights, top_k, sum_type == torch.float32, y2, weight, cols, eps, out2, rows)
                name = f"sum {rows} x {cols} top {top_k} {y_type} {sum_type}"
                same(name + " y", y, y2)
                same(name + " out", out, out2)
                normed_by_torch(name, y2, weight, cols, eps, out2)
                cases += 1
    print("sum cases", cases)


if __name__ == "__main__":
    torch.manual_seed(1)
    kernels = Kernels(sys.argv[1])
    check_route(kernels)
    check_sum(kernels)
    print("checks failed:", failed)
    sys.exit(failed > 0)
