"""Checks and times the matrix products for many rows.

usage: matrix_many.py KERNELS check|time

KERNELS is the folder of the fatbins. Every case is compared with torch in float32.
"""

import sys

import torch

import gpu

STAGES = {128: 6, 192: 5, 256: 4}
BLOCKS = torch.cuda.get_device_properties(0).multi_processor_count
SENTINEL = 768.0  # a bf16


class Kernels:
    def __init__(self, folder):
        many = gpu.Module(f"{folder}/matrix_many.fatbin")
        shared = {c: STAGES[c] * (128 + c) * 128 + 1024 + 4 * 513 for c in STAGES}
        self.many = {c: many.kernel(f"matrix_many_{c}", shared[c]) for c in STAGES}
        self.wide = {c: many.kernel(f"matrix_many_wide_{c}", shared[c]) for c in STAGES}
        self.experts = {c: many.kernel(f"experts_many_{c}", shared[c]) for c in STAGES}
        self.portable = gpu.Module(f"{folder}/matrix_many_portable.fatbin").kernel("matrix_many_portable", 4 * 513)


class Case:
    """A grouped product: counts[e] routed rows of each expert, in an order that mixes the experts."""

    def __init__(self, n, k, counts, choices=1, bias=True, dense=False, gap=8, seed=1):
        self.n, self.k, self.counts, self.choices, self.dense = n, k, counts, choices, dense
        torch.manual_seed(seed)
        device = "cuda"
        e = len(counts)
        total = sum(counts)
        self.rows = -(-total // choices)
        self.total = self.rows * choices
        experts = torch.repeat_interleave(torch.arange(e), torch.tensor(counts))
        order = torch.arange(total) if dense else torch.randperm(total)
        placed = torch.full((total,), 0)
        placed[order] = experts  # expert of each routed row
        self.sorted = torch.sort(placed, stable=True).indices.to(torch.int32).to(device)
        self.starts = torch.cat([torch.zeros(1), torch.tensor(counts).cumsum(0)]).to(torch.int32).to(device)
        self.x = torch.randn(self.rows, k + gap, device=device, dtype=torch.bfloat16)
        self.w = torch.randn(e, n, k, device=device, dtype=torch.bfloat16).mul_(k**-0.5)
        self.bias = torch.randn(e, n, device=device) if bias else None

    def x_sorted(self):
        return self.x[torch.div(self.sorted, self.choices, rounding_mode="floor").long()].contiguous()

    def reference(self):
        xs = self.x_sorted()[:, : self.k].float()
        y = torch.full((self.total, self.n), SENTINEL, device="cuda")
        start = 0
        for e, count in enumerate(self.counts):
            if count:
                part = xs[start : start + count] @ self.w[e].float().T
                if self.bias is not None:
                    part += self.bias[e]
                y[self.sorted[start : start + count].long()] = part
            start += count
        return y

    def out(self, wide=False):
        return torch.full((self.total, self.n + 8), SENTINEL, device="cuda",
                          dtype=torch.float32 if wide else torch.bfloat16)

    def flop(self):
        return 2 * sum(self.counts) * self.n * self.k

    def plan(self):
        return (None, None) if self.dense else (self.starts, self.sorted)

    def map_w(self, columns):
        return gpu.tensor_map(self.w, (self.k, self.n, len(self.counts)), (self.k, self.n * self.k), (64, columns, 1))

    def tail(self, y):
        return [*self.plan(), self.bias, y, y.stride(0), self.total, self.n, self.k, len(self.counts)]


def launch_many(kernels, case, columns, y, xs):
    table = kernels.wide if y.dtype == torch.float32 else kernels.many
    map_x = gpu.tensor_map(xs, (case.k, xs.shape[0]), (xs.stride(0),), (64, 128))
    map_w = case.map_w(columns)
    return lambda: table[columns]((BLOCKS,), 384, [map_x, map_w, *case.tail(y)])


def launch_experts(kernels, case, columns, y):
    map_w = case.map_w(columns)
    return lambda: kernels.experts[columns](
        (BLOCKS,), 384, [case.x, case.x.stride(0), case.choices, map_w, *case.tail(y)])


def launch_portable(kernels, case, y):
    return lambda: kernels.portable((2 * BLOCKS,), 256, [
        case.x, case.x.stride(0), case.choices, case.w, *case.tail(y), int(y.dtype == torch.float32)])


def compare(name, y, case, expected):
    torch.cuda.synchronize()
    n = case.n
    got = y[:, :n].float()
    bound = expected.abs() * 2**-8 + (2e-3 if y.dtype == torch.bfloat16 else 1e-3)
    wrong = ((got - expected).abs() > bound) | ~torch.isfinite(got)
    touched = int((y[:, n:].float() != SENTINEL).sum())
    worst = float((got - expected).abs().nan_to_num(1e9).max()) if got.numel() else 0
    ok = not bool(wrong.any()) and touched == 0
    text = ""
    if not ok:
        at = wrong.nonzero()
        rows, cols = at[:, 0].unique(), at[:, 1].unique()
        text = f" wrong {len(at)} of {got.numel()}; padding touched {touched}"
        if len(at):
            r, c = at[0].tolist()
            text += (f"; rows {rows[:10].tolist()}..{rows[-1].item()} ({len(rows)})"
                     f" cols {cols[:20].tolist()}..{cols[-1].item()} ({len(cols)})"
                     f" first [{r},{c}] is {got[r, c].item():.4f} not {expected[r, c].item():.4f}")
    print(f"{'ok   ' if ok else 'WRONG'} {name}: worst {worst:.2e}{text}", flush=True)
    return ok


def shapes():
    yield "one tile", Case(128, 64, [128], dense=True, bias=False)
    yield "one tile, k 256", Case(256, 256, [128], dense=True, bias=False)
    yield "one short tile, k 48", Case(24, 48, [5], dense=True)
    yield "two rows of tiles", Case(384, 192, [200], dense=True)
    yield "hidden 48", Case(48, 24, [3, 0, 9, 1], choices=2)
    yield "intermediate 24", Case(24, 48, [70, 0, 0, 130, 1, 64, 65, 2], choices=4)
    yield "uniform", Case(1536, 2048, [64] * 128, choices=8)
    yield "one hot", Case(768, 512, [0, 0, 4000, 0, 1, 3, 0, 0], choices=4)
    yield "odd", Case(1000, 1016, [1, 2, 3, 127, 128, 129, 255, 257, 0, 31], choices=1)
    yield "last expert only", Case(200, 136, [0] * 199 + [77], choices=1)
    yield "none", Case(64, 64, [0, 0, 0, 0], choices=1) if False else Case(64, 64, [1, 0, 0, 0])
    generator = torch.Generator().manual_seed(3)
    skewed = (torch.rand(32, generator=generator) ** 6 * 1500).int().tolist()
    yield "GPT-OSS up, skewed", Case(5760, 2880, skewed, choices=1)
    yield "GPT-OSS down, skewed", Case(2880, 2880, skewed, choices=1, bias=True)
    yield "dense", Case(5120, 2048, [1000], dense=True)
    yield "dense, narrow", Case(128, 2048, [3000], dense=True)


def check(kernels):
    ok = True
    for name, case in shapes():
        expected = case.reference()
        y = case.out()
        launch_portable(kernels, case, y)()
        ok &= compare(f"{name}: portable", y, case, expected)
        y = case.out(wide=True)
        launch_portable(kernels, case, y)()
        ok &= compare(f"{name}: portable, wide", y, case, expected)
        xs = case.x_sorted()
        for columns in STAGES:
            y = case.out()
            launch_many(kernels, case, columns, y, xs)()
            ok &= compare(f"{name}: many {columns}", y, case, expected)
            first = y
            y = case.out(wide=True)
            launch_many(kernels, case, columns, y, xs)()
            ok &= compare(f"{name}: many wide {columns}", y, case, expected)
            y = case.out()
            launch_experts(kernels, case, columns, y)()
            ok &= compare(f"{name}: experts {columns}", y, case, expected)
            if not torch.equal(first, y):
                print(f"      {name}: {columns} differs in bits from scattered")
    print("all ok" if ok else "NOT OK")


def time_us(body, operations=6, replays=5):
    body()
    graph = gpu.capture(lambda: [body() for _ in range(operations)])
    return gpu.median_us(graph, operations, replays)


def random_counts(experts, top_k, rows, seed=7):
    torch.manual_seed(seed)
    chosen = torch.rand(rows, experts).topk(top_k).indices
    return torch.bincount(chosen.flatten(), minlength=experts).tolist()


def rate(name, case, us, best):
    tflops = case.flop() / us / 1e6
    print(f"{name}: {us:.0f} us, {tflops:.0f} TFLOP/s ({100 * tflops / best:.0f} %),"
          f" weights at {case.w.numel() * 2 / us / 1e6:.2f} TB/s", flush=True)


def best_rate():
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    us = time_us(lambda: torch.matmul(a, b.T))
    best = 2 * 8192**3 / us / 1e6
    print(f"torch.matmul 8192^3: {best:.0f} TFLOP/s", flush=True)
    return best


def timings(kernels):
    print(torch.cuda.get_device_name())
    best = best_rate()
    grouped = (
        ("Qwen gate_up", 128, 8, 1536, 2048, 8),
        ("Qwen down", 128, 8, 2048, 768, 1),
        ("GPT-OSS gate_up", 32, 4, 5760, 2880, 4),
        ("GPT-OSS down", 32, 4, 2880, 2880, 1),
    )
    for rows in (8192, 2048, 1024, 256):
        for name, experts, top_k, n, k, choices in grouped:
            case = Case(n, k, random_counts(experts, top_k, rows), choices)
            y = case.out()
            xs = case.x_sorted()
            for columns in STAGES:
                if rows == 8192:
                    us = time_us(launch_many(kernels, case, columns, y, xs))
                    rate(f"{name}, {rows} rows, sorted x, {columns}", case, us, best)
                us = time_us(launch_experts(kernels, case, columns, y))
                rate(f"{name}, {rows} rows, scattered x, {columns}", case, us, best)
            if rows == 1024:
                rate(f"{name}, {rows} rows, portable", case, time_us(launch_portable(kernels, case, y), 2, 3), best)
            del case, y, xs
            torch.cuda.empty_cache()
    for name, n, k in (("Qwen qkv", 5120, 2048), ("Qwen o", 2048, 4096), ("GPT-OSS qkv", 5120, 2880),
                       ("GPT-OSS o", 2880, 4096), ("router", 128, 2048)):
        for rows in (128, 512, 1024, 2048, 8192):
            case = Case(n, k, [rows], dense=True, gap=0)
            y = torch.zeros(rows, n, device="cuda", dtype=torch.bfloat16)
            text = []
            for columns in STAGES:
                us = time_us(launch_many(kernels, case, columns, y, case.x))
                text.append(f"{columns}: {us:.1f} us, {case.flop() / us / 1e6:.0f} TFLOP/s")
            us = time_us(lambda: torch.matmul(case.x, case.w[0].T, out=y))
            print(f"{name}, {rows} rows: {'; '.join(text)}; torch: {us:.1f} us, {case.flop() / us / 1e6:.0f}", flush=True)
    best_rate()


if __name__ == "__main__":
    with torch.no_grad():
        torch.backends.cuda.matmul.allow_tf32 = False
        {"check": check, "time": timings}[sys.argv[2]](Kernels(sys.argv[1]))
