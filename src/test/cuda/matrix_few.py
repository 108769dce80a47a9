"""Checks and times matrix_few.cu and route.cu against PyTorch.

usage: matrix_few.py DIRECTORY    where the fatbins are
"""

import sys

import torch

import gpu

BANDWIDTH = 3.1e12
failed = 0


def report(name, error, limit):
    global failed
    bad = not error <= limit
    failed += bad
    if bad:
        print(f"FAILED {name}: error {error:.3g}, limit {limit:.3g}")


class Kernels:
    def __init__(self, directory):
        few, route = gpu.Module(f"{directory}/matrix_few.fatbin"), gpu.Module(f"{directory}/route.fatbin")
        self.variants = {v: tuple(few.kernel(f"{k}_{v[0]}_{v[1]}") for k in ("matrix_few", "experts_few", "experts_one"))
                         for v in ((4, 1), (2, 1), (8, 1))}
        self.combine = few.kernel("experts_combine")
        self.route_few, self.route_rows = route.kernel("route_few"), route.kernel("route_rows")
        self.plan_count, self.plan_fill = route.kernel("plan_count"), route.kernel("plan_fill")

    @staticmethod
    def variant(k):
        return (8, 1) if k >= 4096 else (2, 1) if k < 1024 else (4, 1)

    def dense(self, x, w, bias, y, rows, dependent=False):
        n, k = w.shape
        v = self.variant(k)
        self.variants[v][0]([-(-n // (16 * v[1]))], v[0] * 32,
                            [x, ("l", x.stride(0)), rows, w, bias, n, k, y, ("l", y.stride(0)),
                             y.dtype == torch.float32], dependent=dependent)

    def routed(self, x, choices, w, bias, plan, y, routed, top_k, dependent=False):
        e, n, k = w.shape
        v = self.variant(k)
        self.variants[v][2 if routed <= 8 * top_k else 1]([-(-n // (16 * v[1])), min(e, routed)], v[0] * 32,
                            [x, ("l", x.stride(0)), choices, w, bias, n, k, *plan, y, ("l", y.stride(0)),
                             y.dtype == torch.float32], dependent=dependent)


def threads(rows, top_k):
    return max(256, -(-rows * top_k // 32) * 32, min(1024, rows * 32))


def bf16(*shape, scale=1.0):
    return (torch.randn(*shape, device="cuda") * scale).bfloat16()


def check_dense(kernels):
    for rows in (1, 2, 3, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64, 130):
        for n, k in ((8, 8), (16, 48), (24, 24), (40, 72), (5120, 2048), (2048, 4096), (128, 2048), (2880, 4096),
                     (1536, 768), (5760, 2880), (264, 1032)):
            x, w = bf16(rows, k + 8)[:, :k], bf16(n, k, scale=k ** -0.5)
            bias = torch.randn(n, device="cuda") if rows % 2 else None
            expected = x.float() @ w.float().T + (0 if bias is None else bias)
            for dtype in (torch.float32, torch.bfloat16):
                y = torch.full((rows, n + 8), 7.0, device="cuda", dtype=dtype)
                kernels.dense(x, w, bias, y, rows)
                error = ((y[:, :n].float() - expected).abs().max() / expected.abs().max()).item()
                report(f"dense rows {rows} [{n}, {k}] {dtype}", error, 2e-5 if dtype == torch.float32 else 5e-3)
                report(f"dense rows {rows} [{n}, {k}] beyond", (y[:, n:] != 7).sum().item(), 0)


def reference_route(logits, top_k, softmax_first, normalise):
    order = torch.sort(logits, dim=1, descending=True, stable=True)
    chosen = order.indices[:, :top_k]
    if softmax_first:
        weights = torch.softmax(logits.double(), 1).gather(1, chosen)
        if normalise:
            weights = weights / weights.sum(1, keepdim=True)
    else:
        weights = torch.softmax(logits.gather(1, chosen).double(), 1)
    return chosen, weights


def route(kernels, logits, top_k, first, normalise, present=None):
    rows, e = logits.shape
    ints = lambda n: torch.full((n,), -7, device="cuda", dtype=torch.int32)
    experts, weights = ints(rows * top_k), torch.zeros(rows * top_k, device="cuda")
    plan, counts = [ints(e + 1), ints(rows * top_k), ints(e + 1)], ints(-(-rows * top_k // 1024) * e)
    count = None if present is None else torch.tensor([present], device="cuda", dtype=torch.int32)
    arguments = [logits, logits.stride(0), rows, count, e, top_k, int(first), int(normalise), experts, weights]
    if rows <= 64:
        kernels.route_few([1], threads(rows, top_k), arguments + plan)
    else:
        kernels.route_rows([-(-rows // 8)], 256, arguments)
        kernels.plan_count([-(-rows * top_k // 1024)], 1024, [experts, rows * top_k, e, counts])
        kernels.plan_fill([-(-rows * top_k // 1024)], 1024, [experts, rows * top_k, counts, e, *plan])
    return experts, weights, plan


def check_routed(kernels):
    for rows, e, top_k in ((1, 8, 2), (1, 128, 8), (2, 32, 4), (1, 6, 4), (3, 16, 4), (8, 128, 8), (9, 128, 8), (8, 6, 4), (9, 6, 4), (33, 128, 8), (64, 32, 4), (64, 128, 8), (64, 6, 6),
                           (65, 128, 8), (700, 32, 4), (5000, 128, 8)):
        for skew in (0, 1, 2):
            logits = torch.randn(rows, e, device="cuda") * 2
            if skew == 1:
                logits[:, 3] += 20
            if skew == 2:
                logits = logits.round()  # ties
            for first, normalise in ((1, 1), (1, 0), (0, 0)):
                present = max(1, rows - 2) if skew == 0 else None
                experts, weights, plan = route(kernels, logits, top_k, first, normalise, present)
                real = rows if present is None else present
                chosen, expected = reference_route(logits[:real], top_k, first, normalise)
                got = experts.view(rows, top_k)
                name = f"route {rows} x {e} top {top_k} skew {skew} {first}{normalise}"
                report(name, (got[:real] != chosen).sum().item() + (got[real:] != -1).sum().item(), 0)
                report(name + " weights", (weights.view(rows, top_k)[:real] - expected).abs().max().item(), 2e-6)
                flat = got.reshape(-1)
                lists = [torch.nonzero(flat == i).flatten() for i in range(e)]
                starts = torch.tensor([0] + [len(v) for v in lists], device="cuda").cumsum(0)
                report(name + " starts", (plan[0] != starts).sum().item(), 0)
                report(name + " sorted", (plan[1][: real * top_k] != torch.cat(lists)).sum().item(), 0)
                active = [i for i, v in enumerate(lists) if len(v)]
                report(name + " active", plan[2][: len(active) + 1].tolist() != [len(active)] + active, 0)
            for n, k in ((40, 48), (96, 256)) if rows > 64 else ((40, 48), (512, 1024), (72, 2888), (24, 4104)):
                for choices in (1, top_k):
                    x = bf16(rows * top_k // choices, k)
                    w, bias = bf16(e, n, k, scale=k ** -0.5), torch.randn(e, n, device="cuda")
                    y = torch.full((rows * top_k, n), 7.0, device="cuda")
                    kernels.routed(x, choices, w, bias, plan, y, rows * top_k, top_k)
                    flat = experts.long().clamp(min=0)
                    rowsOf = torch.arange(rows * top_k, device="cuda") // choices
                    expected = torch.empty_like(y)
                    for i in range(e):
                        mine = torch.nonzero(flat == i).flatten()
                        expected[mine] = x[rowsOf[mine]].float() @ w[i].float().T + bias[i]
                    expected[experts < 0] = 7
                    error = ((y - expected).abs().max() / expected.abs().max()).item()
                    report(f"experts {rows} x {e} top {top_k} [{n}, {k}] / {choices} skew {skew}", error, 2e-5)
                out = torch.zeros(rows, n, device="cuda", dtype=torch.bfloat16)
                kernels.combine([-(-n // 1024), rows], 128,
                                [y, ("l", n), experts, weights, top_k, n, out, ("l", n), 0])
                sums = (y.view(rows, top_k, n) * weights.view(rows, top_k, 1)).sum(1)
                report("combine", ((out.float() - sums).abs().max() / sums.abs().max()).item(), 5e-3)


def time_dense(kernels):
    print("dense: n k rows us limit us share")
    for n, k in ((5120, 2048), (2048, 4096), (128, 2048), (151936, 2048), (5120, 2880), (2880, 4096), (201088, 2880)):
        copies = max(2, 300_000_000 // (n * k * 2))
        ws = [bf16(n, k) for _ in range(copies)]
        for rows in (1, 8, 16, 32, 64):
            x = bf16(rows, k)
            y = torch.zeros(rows, n, device="cuda", dtype=torch.bfloat16)
            us = gpu.median_us(gpu.capture(lambda: [kernels.dense(x, w, None, y, rows, True) for w in ws]), copies)
            cublas = gpu.median_us(gpu.capture(lambda: [torch.mm(x, w.T, out=y) for w in ws]), copies)
            limit = n * k * 2 / BANDWIDTH * 1e6
            print(f"{n:7} {k:5} {rows:3} {us:8.2f} {limit:8.2f} {100 * limit / us:4.0f} %   cublas {cublas:8.2f}")
        del ws


def time_experts(kernels):
    print("experts: model n k rows distinct us limit us share")
    for name, e, top_k, shapes in (("qwen3", 128, 8, ((1536, 2048, 8), (2048, 768, 1))),
                                   ("gpt_oss", 32, 4, ((5760, 2880, 4), (2880, 2880, 1)))):
        for n, k, choices in shapes:
            copies = max(1, min(8, 3_000_000_000 // (e * n * k * 2)))
            ws = [bf16(e, n, k) for _ in range(copies)]
            for rows in (1, 8, 32, 64):
                plans = [route(kernels, torch.randn(rows, e, device="cuda"), top_k, 1, 1) for _ in ws]
                x = bf16(rows * top_k // choices, k)
                y = torch.zeros(rows * top_k, n, device="cuda")
                body = lambda: [kernels.routed(x, choices, w, None, p[2], y, rows * top_k, top_k, True)
                                for w, p in zip(ws, plans)]
                us = gpu.median_us(gpu.capture(body), copies)
                distinct = sum(int(p[2][2][0]) for p in plans) / copies
                limit = distinct * n * k * 2 / BANDWIDTH * 1e6
                print(f"{name:8} {n:5} {k:5} {rows:3} {distinct:6.1f} {us:8.2f} {limit:8.2f} {100 * limit / us:4.0f} %")
            del ws


def time_combine(kernels):
    """Eight choices of a row of 2048, as the last kernel of a layer's experts."""
    for rows in (1, 8, 64):
        y, experts = torch.randn(rows * 8, 2048, device="cuda"), torch.zeros(rows * 8, device="cuda", dtype=torch.int32)
        weights, out = torch.rand(rows * 8, device="cuda"), torch.zeros(rows, 2048, device="cuda")
        us = gpu.median_us(gpu.capture(lambda: [
            kernels.combine([2, rows], 128, [y, ("l", 2048), experts, weights, 8, 2048, out, ("l", 2048), 1],
                            dependent=True) for _ in range(50)]), 50)
        print(f"combine {rows} rows: {us:.2f} us")


def time_route(kernels):
    for rows in (1, 8, 64):
        logits = torch.randn(rows, 128, device="cuda")
        ints = lambda n: torch.zeros(n, device="cuda", dtype=torch.int32)
        arguments = [logits, 128, rows, None, 128, 8, 1, 1, ints(rows * 8), torch.zeros(rows * 8, device="cuda"),
                     ints(129), ints(rows * 8), ints(129)]
        us = gpu.median_us(gpu.capture(lambda: [kernels.route_few([1], threads(rows, 8), arguments, dependent=True)
                                                for _ in range(50)]), 50)
        print(f"route {rows} rows: {us:.2f} us")


if __name__ == "__main__":
    torch.manual_seed(1)
    kernels = Kernels(sys.argv[1])
    check_dense(kernels)
    check_routed(kernels)
    print("checks failed:", failed)
    time_dense(kernels)
    time_experts(kernels)
    time_route(kernels)
    time_combine(kernels)
    sys.exit(failed > 0)
