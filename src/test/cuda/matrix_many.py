"""Checks and times the matrix products for many rows, and what surrounds them: plan, order of experts, sums.

usage: matrix_many.py KERNELS check|time

KERNELS is the folder of the fatbins. Every case is compared with torch in float32.
"""

import sys

import torch

import gpu

STAGES = {(128, 128): 6, (128, 256): 4}  # of tiles of (rows, columns)
BLOCKS = torch.cuda.get_device_properties(0).multi_processor_count
SENTINEL = 768.0  # a bf16


class Kernels:
    def __init__(self, folder):
        many = gpu.Module(f"{folder}/matrix_many.fatbin")

        def table(name):
            return {t: many.kernel(f"{name}_{t[0]}_{t[1]}", STAGES[t] * sum(t) * 128 + 1024 + 4 * 257) for t in STAGES}

        self.many, self.terms = table("matrix_many"), table("matrix_many_terms")
        self.portable = gpu.Module(f"{folder}/matrix_many_portable.fatbin").kernel("matrix_many_portable", 4 * 513)
        rows = gpu.Module(f"{folder}/sorted_rows.fatbin")
        self.gather, self.combine = rows.kernel("gather_sorted"), rows.kernel("combine_terms")
        route = gpu.Module(f"{folder}/route.fatbin")
        self.plan_count, self.plan_fill = route.kernel("plan_count"), route.kernel("plan_fill")


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
        """Rows in the order of experts, and behind them some that nobody may see."""
        own = self.x[torch.div(self.sorted, self.choices, rounding_mode="floor").long()]
        return torch.cat([own, torch.full_like(own[:1], float("nan")).expand(70, -1)]).contiguous()

    def reference(self):
        xs = self.x_sorted()[: self.total, : self.k].float()
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

    def out(self, dtype=torch.bfloat16):
        return torch.full((self.total, self.n + 8), SENTINEL, device="cuda", dtype=dtype)

    def flop(self):
        return 2 * sum(self.counts) * self.n * self.k

    def plan(self):
        return (None, None) if self.dense else (self.starts, self.sorted)

    def map_w(self, columns):
        return gpu.tensor_map(self.w, (self.k, self.n, len(self.counts)), (self.k, self.n * self.k), (64, columns, 1))

    def tail(self, y):
        return [*self.plan(), self.bias, y, y.stride(0), self.total, self.n, self.k, len(self.counts)]


def launch_many(kernels, case, tile, y, xs, blocks=BLOCKS):
    table = {torch.float16: kernels.terms, torch.bfloat16: kernels.many}[y.dtype]
    map_x = gpu.tensor_map(xs, (case.k, xs.shape[0]), (xs.stride(0),), (64, 64))
    map_w = case.map_w(tile[1])
    return lambda: table[tile]((blocks,), (tile[0] // 64 + 1) * 128, [map_x, map_w, *case.tail(y)])


def launch_portable(kernels, case, y):
    return lambda: kernels.portable((2 * BLOCKS,), 256, [
        case.x, case.x.stride(0), case.choices, case.w, *case.tail(y), int(y.dtype == torch.float32)])


def compare(name, y, case, expected):
    torch.cuda.synchronize()
    n = case.n
    got = y[:, :n].float()
    if y.dtype == torch.float16:
        got = torch.where(y[:, :n] == SENTINEL, got, got * 16)
    bound = expected.abs() * (2**-8 if y.dtype == torch.bfloat16 else 2**-11) + (2e-3 if y.dtype == torch.bfloat16 else 1e-3)
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
    yield "one row", Case(64, 64, [1, 0, 0, 0])
    yield "8 features", Case(8, 8, [300, 1, 64, 65], choices=1)
    for n in (120, 136, 248, 264, 392):
        yield f"{n} features", Case(n, 64, [63, 64, 65, 0, 128, 191, 192, 193], choices=2)
    yield "k 72", Case(256, 72, [200, 130], choices=1)
    yield "many tiles of one step", Case(2048, 64, [3000, 5000, 1, 2000], choices=1)
    yield "256 experts", Case(520, 136, [(7 * e) % 150 for e in range(256)], choices=1, bias=False)
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
        y = case.out(torch.float32)
        launch_portable(kernels, case, y)()
        ok &= compare(f"{name}: portable, wide", y, case, expected)
        xs = case.x_sorted()
        for dtype in (torch.bfloat16, torch.float16):
            for tile in STAGES:
                y = case.out(dtype)
                launch_many(kernels, case, tile, y, xs)()
                ok &= compare(f"{name}: {tile}, {dtype}", y, case, expected)
                ok &= check_again(kernels, case, tile, y, xs, f"{name}: {tile}, {dtype}")
    ok &= check_range(kernels) & check_plans(kernels) & check_gather(kernels) & check_combine(kernels)
    print("all ok" if ok else "NOT OK")


def check_again(kernels, case, tile, y, xs, name):
    """The same bits, whenever and by however many blocks."""
    ok = True
    for blocks in (BLOCKS, BLOCKS, BLOCKS, BLOCKS // 2, 7):
        again = case.out(y.dtype)
        launch_many(kernels, case, tile, again, xs, blocks)()
        bits = again.view(torch.int16) != y.view(torch.int16)
        if bool(bits.any()):
            ok = False
            print(f"WRONG {name}: {int(bits.sum())} other bits by {blocks} blocks, first {bits.nonzero()[0].tolist()}", flush=True)
    return ok


def report(ok, name):
    print(f"{'ok   ' if ok else 'WRONG'} {name}", flush=True)
    return ok


def check_range(kernels):
    """Terms beyond fp16."""
    case = Case(64, 64, [8], dense=True, bias=True)
    case.x[:] = 0
    values = [1e6, -1e6, 1.048e6, 2e6, -2e6, float("inf"), float("-inf"), float("nan"), 1e-3, 1e-8, 0.0, 3.14159]
    case.bias[0, : len(values)] = torch.tensor(values)
    y = case.out(torch.float16)
    launch_many(kernels, case, (128, 128), y, case.x_sorted())()
    got = y[0, : len(values)].float() * 16
    expected = torch.tensor(values, device="cuda").clamp(-16 * 65504, 16 * 65504)
    near = (got - expected).abs() <= expected.abs() * 2**-11 + 2**-21
    return report(bool((near | (got.isnan() & expected.isnan())).all()), f"range of terms: {got.tolist()}")


def make_plan(kernels, chosen, experts):
    routed = chosen.numel()
    blocks = -(-routed // 1024)
    counts = torch.full((blocks, experts), -7, dtype=torch.int32, device="cuda")
    starts = torch.full((experts + 1,), -7, dtype=torch.int32, device="cuda")
    active = torch.full((experts + 1,), -7, dtype=torch.int32, device="cuda")
    places = torch.full((routed,), -7, dtype=torch.int32, device="cuda")

    def launch():
        kernels.plan_count((blocks,), 1024, [chosen, routed, experts, counts])
        kernels.plan_fill((blocks,), 1024, [chosen, routed, counts, experts, starts, places, active])

    return launch, starts, places, active


def check_plans(kernels):
    ok = True
    torch.manual_seed(11)
    for experts, top_k, rows, padded in ((128, 8, 8192, 0), (128, 8, 1000, 37), (256, 16, 5000, 1), (1, 1, 3000, 0),
                                         (3, 2, 65, 0), (32, 4, 257, 250), (60, 4, 2048, 0), (256, 1, 20000, 3)):
        for skew in (0, 6):
            scores = torch.rand(rows, experts, device="cuda") + skew * torch.rand(experts, device="cuda")
            chosen = scores.topk(top_k).indices.to(torch.int32)
            chosen[rows - padded:] = -1
            chosen = chosen.flatten().contiguous()
            launch, starts, places, active = make_plan(kernels, chosen, experts)
            launch()
            real = torch.where(chosen < 0, experts, chosen)
            counts = torch.bincount(real, minlength=experts + 1)[:experts]
            order = torch.sort(real, stable=True).indices[: int(counts.sum())].to(torch.int32)
            present = counts.nonzero().flatten().to(torch.int32)
            good = (torch.equal(places[: len(order)], order) and bool((places[len(order):] == -7).all())
                    and torch.equal(starts[1:], counts.cumsum(0).to(torch.int32)) and int(starts[0]) == 0
                    and int(active[0]) == len(present) and torch.equal(active[1: 1 + len(present)], present))
            ok &= report(good, f"plan of {rows} rows, {padded} padded, {top_k} of {experts} experts, skew {skew}")
    return ok


def launch_gather(kernels, x, columns, places, end, choices, out, slice_=32):
    vectors = columns // 8
    width = vectors if choices == 1 else min(vectors, slice_)
    grid = (-(-places.numel() * width // 1024), -(-vectors // width))
    return lambda: kernels.gather(grid, 256, [x, ("l", x.stride(0)), places, end, choices, columns, width, out])


def check_gather(kernels):
    ok = True
    for rows, columns, choices, padded in ((100, 8, 4, 0), (1000, 2048, 8, 5), (333, 768, 1, 100), (7, 2880, 4, 0), (50, 24, 2, 1),
                                         (2000, 520, 2, 3), (600, 512, 16, 0), (70, 1016, 3, 69)):
        x = torch.randn(rows, columns + 8, device="cuda", dtype=torch.bfloat16)
        places = torch.randperm(rows * choices, device="cuda").to(torch.int32)
        end = torch.tensor([(rows - padded) * choices], dtype=torch.int32, device="cuda")
        count = int(end)
        out = torch.full((rows * choices, columns), SENTINEL, device="cuda", dtype=torch.bfloat16)
        launch_gather(kernels, x, columns, places, end, choices, out)()
        good = torch.equal(out[:count], x[(places[:count] // choices).long()][:, :columns]) and bool((out[count:] == SENTINEL).all())
        ok &= report(good, f"gather {rows} x {choices} rows of {columns}")
    return ok


def launch_combine(kernels, terms, chosen, weights, out):
    rows, top_k = chosen.shape
    n = terms.shape[1]
    return lambda: kernels.combine((-(-n // 2048), rows), 256, [
        terms, ("l", n), chosen, weights, top_k, n, out, ("l", out.stride(0)), int(out.dtype == torch.float32)])


def check_combine(kernels):
    ok = True
    for rows, top_k, n, padded in ((9, 1, 8, 0), (1000, 8, 2048, 3), (77, 4, 2880, 0), (50, 10, 4096, 1), (30, 16, 24, 2)):
        for dtype in (torch.float32, torch.bfloat16):
            terms = torch.randn(rows * top_k, n, device="cuda").half()
            terms[(rows - padded) * top_k:] = float("nan")
            chosen = torch.randint(0, 8, (rows, top_k), device="cuda", dtype=torch.int32)
            chosen[rows - padded:] = -1
            weights = torch.rand(rows, top_k, device="cuda")
            out = torch.full((rows, n + 8), SENTINEL, device="cuda", dtype=dtype)
            launch_combine(kernels, terms, chosen, weights, out)()
            expected = (terms.float().view(rows, top_k, n) * 16 * weights[:, :, None]).sum(1)
            expected[rows - padded:] = 0
            bound = expected.abs() * (2**-8 if dtype == torch.bfloat16 else 1e-5) + 1e-4
            good = bool(((out[:, :n].float() - expected).abs() <= bound).all()) and bool((out[:, n:] == SENTINEL).all())
            ok &= report(good, f"combine {rows} x {top_k} terms of {n}, {dtype}")
    return ok


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
    for rows in (8192, 1024):
        for name, experts, top_k, n, k, choices in grouped:
            case = Case(n, k, random_counts(experts, top_k, rows), choices)
            xs = case.x_sorted()
            down = name.endswith("down")
            for dtype in (torch.bfloat16, torch.float16) if down else (torch.bfloat16,):
                y = case.out(dtype)
                for tile in STAGES:
                    us = time_us(launch_many(kernels, case, tile, y, xs), 4, 3)
                    rate(f"{name}, {rows} rows, {tile}, {dtype}", case, us, best)
                del y
            end = case.starts[-1:].clone()
            out = torch.empty(case.total, k, device="cuda", dtype=torch.bfloat16)
            us = time_us(launch_gather(kernels, case.x, k, case.sorted, end, choices, out))
            print(f"{name}, {rows} rows: gather {us:.1f} us, {case.total * k * 2 / us / 1e6:.2f} TB/s written", flush=True)
            if down:
                chosen = torch.rand(rows, experts, device="cuda").topk(top_k).indices.to(torch.int32).contiguous()
                print(f"{name}, {rows} rows: plan {time_us(make_plan(kernels, chosen.flatten(), experts)[0]):.1f} us")
                terms = torch.randn(rows * top_k, n, device="cuda").half()
                to = torch.empty(rows, n, device="cuda")
                us = time_us(launch_combine(kernels, terms, chosen, torch.rand(rows, top_k, device="cuda"), to))
                print(f"{name}, {rows} rows: sums {us:.1f} us, {terms.numel() * 2 / us / 1e6:.2f} TB/s read", flush=True)
            del case, xs, out
            torch.cuda.empty_cache()
    best_rate()


if __name__ == "__main__":
    with torch.no_grad():
        torch.backends.cuda.matmul.allow_tf32 = False
        {"check": check, "time": timings}[sys.argv[2]](Kernels(sys.argv[1]))
