"""Checks the kernels of rope.cu, attention_decode.cu and attention_prefill.cu against float64 arithmetic of PyTorch, and times them.

usage: attention.py DIRECTORY [check|time]    where the fatbins are

Times are beside their limits: for decode the bytes of keys and values at BANDWIDTH, for prefill the arithmetic of the
causal half at MATRIX_RATE.
"""

import math
import sys

import torch

import gpu

BANDWIDTH = 3.1e12
MATRIX_RATE = 800e12
SENTINEL = 7.0
KEYS = 16
THREADS = 128
TILE_ROWS = 64
CLUSTER = 8  # blocks that combine their results by themselves
PREFILL_SHARED = {1: 32 << 10, 2: 64 << 10, 4: 96 << 10}
HOPPER_ROWS = 128
HOPPER_THREADS = 384
HOPPER_SHARED = {(1, 64): 1024 + (32 + 6 * 16 << 10), (1, 128): 1024 + (32 + 4 * 32 << 10),
                 (2, 64): 1024 + (64 + 5 * 32 << 10), (2, 128): 1024 + (32 + 3 * 64 << 10)}


def padded(cols):
    return -(-cols // 8) * 8


class Rows:
    """A bf16 matrix in a wider one whose other columns must not change."""

    def __init__(self, values):
        self.cols = values.shape[1]
        self.stride = padded(self.cols) + 8
        self.memory = torch.full((values.shape[0], self.stride), SENTINEL, device="cuda", dtype=torch.bfloat16)
        self.memory[:, : self.cols] = values

    def values(self):
        return self.memory[:, : self.cols].double()

    def intact(self):
        return bool((self.memory[:, self.cols :] == SENTINEL).all())

    def arguments(self):
        return [self.memory, ("l", self.stride)]


class Batch:
    """Sequences of `ends` positions of which the last `counts` are rows of the step; their blocks lie in any order."""

    def __init__(self, ends, counts, block_size, pad=0, bucket=False):
        self.ends, self.counts, self.block_size = ends, counts, block_size
        self.real = sum(counts)
        self.rows = self.real + pad
        needed = [-(-e // block_size) for e in ends]
        self.stride = max(needed) + 1
        if bucket:  # StepBucket
            self.stride = 16
            while self.stride < max(needed):
                self.stride *= 2
        self.blocks = sum(needed) + 2
        order = torch.randperm(self.blocks)[: sum(needed)].split(needed)
        table = torch.zeros(len(ends) + pad, self.stride, dtype=torch.int32)
        positions, sequence = [], []
        for s, (end, count) in enumerate(zip(ends, counts)):
            table[s, : needed[s]] = order[s]
            positions += range(end - count, end)
            sequence += [s] * count
        positions += [-1] * pad
        sequence += [len(ends) + i for i in range(pad)]
        self.positions = torch.tensor(positions, dtype=torch.int32, device="cuda")
        self.sequence = torch.tensor(sequence, dtype=torch.int32, device="cuda")
        starts = [0]
        for count in counts + [0] * pad:
            starts.append(starts[-1] + count)
        self.row_start = torch.tensor(starts, dtype=torch.int32, device="cuda")
        self.sequences = len(counts) + pad
        self.tables = table.cuda()

    def slots(self, s, end):
        """Block and place in it of positions 0 .. end of a sequence."""
        at = torch.arange(end, device="cuda")
        return self.tables[s].long()[at // self.block_size], at % self.block_size

    def starts(self):
        at = 0
        for s, count in enumerate(self.counts):
            yield s, at, count
            at += count

    def tiles(self, share, rows=TILE_ROWS):
        """What AttentionOps.prefill uploads."""
        found = []
        for s, first, count in self.starts():
            for flat in range(0, count * share if count > 1 else 0, rows):
                row, flats = first + flat // share, min(rows, count * share - flat)
                found.append([s, row, self.ends[s] - count + flat // share, flat % share << 8 | flats])
        # Those with most keys first.
        found.sort(key=lambda t: -(t[2] + ((t[3] >> 8) + (t[3] & 0xff) - 1) // share))
        return torch.tensor(found, dtype=torch.int32, device="cuda")


def new_cache(batch, kv_heads, dim, fill=None):
    shape = (batch.blocks, 2, kv_heads, batch.block_size, padded(dim))
    cache = torch.zeros(shape, device="cuda", dtype=torch.bfloat16)
    if fill is not None:
        cache[..., :dim].normal_() if fill == "normal" else cache[..., :dim].fill_(fill)
    return cache


class Checks:
    def __init__(self):
        self.failed = self.passed = 0

    def close(self, case, actual, expected, limit):
        """Every error at most `limit`, a tensor or a number."""
        error = (actual - expected).abs()
        bad = ~(error <= limit)
        if bad.any():
            self.failed += 1
            first = bad.nonzero()[0].tolist()
            print(f"FAILED {case}: {int(bad.sum())} of {bad.numel()}, first at {first}: {actual[tuple(first)].item()} "
                  f"not {expected[tuple(first)].item()}, largest error {error.nan_to_num(math.inf).max().item():.3g}")
        else:
            self.passed += 1
            print(f"ok     {case}: largest error {error.max().item() if error.numel() else 0:.3g}")

    def that(self, case, condition):
        if not condition:
            self.failed += 1
            print(f"FAILED {case}")


def check_rope(checks, modules, positions, heads, kv_heads, dim, block_size, bound, norm, theta, magnitude, split):
    kernel = modules["rope"].kernel("rope_store")
    case = f"rope positions {positions} heads {heads}/{kv_heads} dim {dim} bound {bound} norm {norm}"
    batch = Batch([p + 1 for p in positions], [1] * len(positions), block_size, pad=2)
    widths = (heads * dim, kv_heads * dim, kv_heads * dim)
    q, k, v = (Rows(torch.randn(batch.rows, w, device="cuda") * 2) for w in widths)
    before = [x.values() for x in (q, k, v)]
    weights = [1 + torch.randn(dim, device="cuda") / 4 for _ in range(2)] if norm else [None, None]
    cache = new_cache(batch, kv_heads, dim)
    frequencies = theta ** (-2 * torch.arange(dim // 2, device="cuda", dtype=torch.float64) / dim)
    turns = frequencies / (2 * math.pi)
    parts = rope_parts(batch.rows, heads + 2 * kv_heads, dim) if split else 1
    kernel((-(-batch.rows * parts // 8),), 256, q.arguments() + k.arguments() + v.arguments() + [
        batch.positions, batch.sequence, batch.tables, batch.stride, heads, kv_heads, dim, turns, magnitude, bound,
        weights[0], weights[1], 1e-6, cache, block_size, batch.rows, parts], dependent=True)
    torch.cuda.synchronize()
    expected = [x.clamp(-bound, bound) if bound > 0 else x.clone() for x in before]
    for i in range(2):
        x = expected[i].view(batch.rows, -1, dim)
        if norm:
            x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weights[i].double()
        angles = batch.positions.double()[:, None, None] * frequencies
        a, b = x[..., : dim // 2], x[..., dim // 2 :]
        cos, sin = angles.cos() * magnitude, angles.sin() * magnitude
        expected[i] = torch.cat([a * cos - b * sin, b * cos + a * sin], -1).view(batch.rows, -1)
    for i in range(3):
        expected[i][batch.real :] = before[i][batch.real :]
    for name, x, e in zip("qkv", (q, k, v), expected):
        checks.close(f"{case} {name}", x.values(), e, 2.0 ** -8 * e.abs() + 2e-4)
        checks.that(f"{case} {name}: other columns", x.intact())
    stored = torch.zeros_like(cache)
    for s, p in enumerate(positions):
        block, place = int(batch.tables[s, p // block_size]), p % block_size
        stored[block, 0, :, place, :dim] = k.memory[s, : k.cols].view(kv_heads, dim)
        stored[block, 1, :, place, :dim] = v.memory[s, : v.cols].view(kv_heads, dim)
    checks.that(f"{case} cache", torch.equal(stored, cache))


def rope_parts(rows, heads, dim, multiprocessors=132):
    """AttentionOps.ropeParts."""
    at_once = 1 if dim % 16 else 8 if dim <= 64 else 4 if dim <= 128 else 2
    return max(1, min(32 * multiprocessors // rows, -(-heads // at_once)))


def reference(batch, q, cache, heads, kv_heads, dim, window, scale, sinks):
    """Attention in float64 (float32 matrices where they are large), and the bound of its error."""
    out = torch.zeros(batch.rows, heads * dim, device="cuda", dtype=torch.float64)
    size = torch.zeros_like(out)
    share = heads // kv_heads
    for s, first, count in batch.starts():
        end = batch.ends[s]
        block, place = batch.slots(s, end)
        keys = cache[block, 0, :, place, :dim].double().repeat_interleave(share, 1)  # [end, heads, dim]
        values = cache[block, 1, :, place, :dim].double().repeat_interleave(share, 1)
        queries = q.values()[first : first + count].view(count, heads, dim)
        scores = torch.einsum("ihd,jhd->hij", queries, keys) * scale
        own = torch.arange(end - count, end, device="cuda")[:, None]
        key = torch.arange(end, device="cuda")[None, :]
        seen = (key <= own) & (key > own - window if window else True)
        scores.masked_fill_(~seen, -math.inf)
        if sinks is not None:
            extra = sinks.double()[:, None, None].expand(heads, count, 1)
            scores = torch.cat([scores, extra], -1)
        weights = scores.softmax(-1)[..., :end]
        out[first : first + count] = torch.einsum("hij,jhd->ihd", weights, values).reshape(count, heads * dim)
        size[first : first + count] = torch.einsum("hij,jhd->ihd", weights, values.abs()).reshape(count, heads * dim)
    return out, size


# Threads, memory, tiles that a split has at least, splits of a cluster at most: DecodeAttention.
DECODE = {1: (256, 128 << 10, 16, 4), 2: (256, 192 << 10, 8, 8), 4: (64, 96 << 10, 4, 8)}


def splits_of(batch, heads, kv_heads, group, window, slots=132):
    """DecodeSplits: how many, tiles of each at least, and whether they are a cluster."""
    positions = batch.stride * batch.block_size
    tiles = -(-positions // KEYS)
    if 0 < window < positions:
        tiles = min(tiles, -(-window // KEYS) + 1)
    blocks = batch.sequences * kv_heads * -(-(heads // kv_heads) // 16)
    _, _, least, cluster = DECODE[group]
    full = min(slots // blocks, tiles // 32)
    if full > 8:
        return min(full, 256), 32, False
    few = max(1, min(slots // 2 // blocks, tiles // least, cluster))
    longest = max(128, 128 * blocks // slots, -(-tiles // 256))
    if tiles > few * longest:
        return -(-tiles // longest), longest, False
    return few, least, few > 1


def hopper_keys(dim, window):
    """AttentionOps: keys of a tile of attention_hopper, 0 where it does not serve."""
    return 0 if dim > 128 or dim % 8 else 64 if 0 < window <= 512 else 128


class Attention:
    """One call of the operator as AttentionOps launches it."""

    def __init__(self, modules, batch, heads, kv_heads, dim, window=0, sinks=False, splits=None, scale=None, part=None,
                 keys=None, rope=None, cluster=None):
        self.batch, self.heads, self.kv_heads, self.dim, self.window = batch, heads, kv_heads, dim, window
        self.scale = dim ** -0.5 if scale is None else scale
        self.sinks = torch.randn(heads, device="cuda") if sinks else None
        self.q = Rows(torch.randn(batch.rows, heads * dim, device="cuda"))
        self.out = Rows(torch.full((batch.rows, heads * dim), SENTINEL, device="cuda"))
        self.is_decode, self.is_prefill = 1 in batch.counts, max(batch.counts) > 1
        group = 1 if dim <= 64 else 2 if dim <= 128 else 4
        self.share = heads // kv_heads
        if self.is_decode:
            self.threads, shared, _, _ = DECODE[group]
            self.rope = rope  # then q, k and v are prepared by the kernel itself
            name = "rope_attention" if rope else "attention_decode"
            self.kernel = modules["decode"].kernel(f"{name}_{group}", shared)
            self.splits, self.part, together = (splits, part or 1, splits <= CLUSTER) if splits else splits_of(
                batch, heads, kv_heads, group, window)
            self.partials = torch.full((batch.sequences, heads, self.splits, padded(dim)), math.nan, device="cuda")
            self.sums = torch.full((batch.sequences, heads, self.splits, 2), math.nan, device="cuda")
            self.combine = modules["decode"].kernel("attention_combine")
            self.cluster = together if cluster is None else cluster
        if self.is_prefill:
            self.keys = hopper_keys(dim, window) if keys is None else keys  # 0: the kernel of all devices
            if self.keys:
                self.prefill = modules["hopper"].kernel(f"attention_hopper_{group}_{self.keys}",
                                                        HOPPER_SHARED[group, self.keys])
                self.tiles = batch.tiles(self.share, HOPPER_ROWS)
            else:
                self.prefill = modules["prefill"].kernel(f"attention_prefill_{group}", PREFILL_SHARED[group])
                self.tiles = batch.tiles(self.share)

    def __call__(self, cache):
        batch = self.batch
        arguments = self.q.arguments() + [
            batch.positions, batch.tables, batch.stride, self.heads, self.kv_heads, self.dim, cache, batch.block_size,
            self.window, self.scale, self.sinks] + self.out.arguments()
        if self.is_prefill and self.keys:
            self.prefill((min(132, len(self.tiles) * self.kv_heads),), HOPPER_THREADS,
                         arguments + [self.tiles, len(self.tiles)], dependent=True)
        elif self.is_prefill:
            self.prefill((len(self.tiles), self.kv_heads), THREADS, arguments + [self.tiles], dependent=True)
        if not self.is_decode:
            return
        head_tiles = -(-self.share // 16)
        self.kernel((self.splits, self.kv_heads * head_tiles, batch.sequences), self.threads,
                    arguments + [batch.row_start, self.part, self.partials, self.sums]
                    + (self.rope.arguments() if self.rope else []),
                    cluster=self.splits if self.cluster else 1, dependent=True)
        if self.splits > 1 and not self.cluster:
            self.combine((self.heads, batch.sequences), THREADS, [
                self.partials, self.sums, self.splits, self.dim, self.part, self.window, batch.positions,
                batch.row_start, self.sinks] + self.out.arguments(), dependent=True)


class Rope:
    """What rope_store and rope_attention do to new keys and values, and to q."""

    def __init__(self, batch, kv_heads, dim, bound=0.0, norm=True, theta=1e6, magnitude=1.0):
        self.k, self.v = (Rows(torch.randn(batch.rows, kv_heads * dim, device="cuda") * 2) for _ in range(2))
        self.bound, self.magnitude = bound, magnitude
        self.turns = theta ** (-2 * torch.arange(dim // 2, device="cuda", dtype=torch.float64) / dim) / (2 * math.pi)
        self.norms = [1 + torch.randn(dim, device="cuda") / 4 for _ in range(2)] if norm else [None, None]

    def arguments(self):
        """Of rope_attention, behind those of attention_decode."""
        return self.k.arguments() + self.v.arguments() + [self.turns, self.magnitude, self.bound] + self.norms + [1e-6]

    def store(self, modules, call, cache):
        """rope_store, as AttentionOps launches it."""
        batch = call.batch
        parts = rope_parts(batch.rows, call.heads + 2 * call.kv_heads, call.dim)
        modules["rope"].kernel("rope_store")(
            (-(-batch.rows * parts // 8),), 256, call.q.arguments() + self.k.arguments() + self.v.arguments() + [
                batch.positions, batch.sequence, batch.tables, batch.stride, call.heads, call.kv_heads, call.dim,
                self.turns, self.magnitude, self.bound] + self.norms + [1e-6, cache, batch.block_size, batch.rows, parts],
            dependent=True)


def check_fused(checks, modules, batch, heads, kv_heads, dim, window, sinks, splits, cluster, bound, norm):
    """rope_attention beside rope_store and attention_decode: the same bits, in the cache too."""
    case = (f"fused ends {batch.ends[:4]} heads {heads}/{kv_heads} dim {dim} block {batch.block_size} window {window} "
            f"sinks {sinks} splits {splits} cluster {cluster} bound {bound} norm {norm}")
    cache = new_cache(batch, kv_heads, dim, "normal")
    for s, end in enumerate(batch.ends):  # what is replaced must not matter
        block, place = batch.slots(s, end)
        cache[block[-1], :, :, place[-1]] = math.nan
    rope = Rope(batch, kv_heads, dim, bound, norm, 1e4, 1.25)
    fused = Attention(modules, batch, heads, kv_heads, dim, window, sinks, splits, rope=rope, cluster=cluster)
    two = Attention(modules, batch, heads, kv_heads, dim, window, sinks, splits, cluster=cluster)
    two.q, two.sinks = fused.q, fused.sinks
    caches = [cache.clone(), cache.clone()]
    before = [x.memory.clone() for x in (fused.q, rope.k, rope.v)]
    for _ in range(2):
        fused(caches[0])
    torch.cuda.synchronize()
    checks.that(f"{case}: inputs", all(torch.equal(x.memory, b) for x, b in zip((fused.q, rope.k, rope.v), before)))
    rope.store(modules, two, caches[1])
    two(caches[1])
    torch.cuda.synchronize()
    n = batch.real
    checks.close(case, fused.out.values()[:n], two.out.values()[:n], 0 * two.out.values()[:n])
    checks.that(f"{case}: cache", torch.equal(*(c.nan_to_num(9.0) for c in caches)))
    checks.that(f"{case}: stored", not caches[0].isnan().any())
    checks.that(f"{case}: other columns and rows", fused.out.intact() and bool((fused.out.values()[n:] == SENTINEL).all()))


def check_attention(checks, name, call, cache):
    batch = call.batch
    call(cache)
    torch.cuda.synchronize()
    expected, size = reference(batch, call.q, cache, call.heads, call.kv_heads, call.dim, call.window, call.scale,
                               call.sinks)
    case = (f"{name} ends {batch.ends[:4]} rows {batch.rows} heads {call.heads}/{call.kv_heads} dim {call.dim} block "
            f"{batch.block_size} window {call.window} sinks {call.sinks is not None}"
            + (f" splits {call.splits}" if call.is_decode else ""))
    n = batch.real
    # Weights and results are rounded to bf16.
    checks.close(case, call.out.values()[:n], expected[:n], 2.0 ** -8 * (size[:n] + expected[:n].abs()) + 1e-5)
    checks.that(f"{case}: padded rows", bool((call.out.values()[n:] == SENTINEL).all()))
    checks.that(f"{case}: other columns", call.out.intact())
    again = call.out.values().clone()
    call(cache)
    torch.cuda.synchronize()
    checks.that(f"{case}: again", torch.equal(again, call.out.values()))


def check(modules):
    checks = Checks()
    torch.manual_seed(1)
    for arguments in (
        ((0, 5, 77), 4, 2, 64, 16, 0.0, False, 1e4, 1.0),
        ((3, 131071, 9), 32, 4, 128, 16, 0.0, True, 1e6, 1.0),
        ((131071, 65537), 8, 1, 64, 16, 0.0, False, 150000.0, 1.3465735902799727),
        ((1, 31), 6, 3, 12, 5, 0.5, True, 1e4, 1.0),
        ((40, 2), 4, 4, 256, 32, 3.0, True, 1e4, 1.0),
        ((40, 2), 3, 1, 80, 16, 1.0, False, 1e4, 1.0),
        ((7, 130000, 64), 5, 1, 90, 16, 2.0, True, 5e5, 0.9),
    ):
        check_rope(checks, modules, *arguments, split=True)
        check_rope(checks, modules, *arguments, split=False)
    # heads, kv heads, head dimension, block size, window, sinks
    shapes = (
        (32, 4, 128, 16, 0, False), (64, 8, 64, 16, 0, True), (64, 8, 64, 16, 128, True), (8, 8, 128, 16, 0, False),
        (9, 3, 64, 16, 0, False), (40, 2, 128, 16, 0, False), (4, 2, 12, 16, 0, False), (6, 2, 24, 7, 5, True),
        (2, 1, 80, 32, 1, False), (4, 1, 256, 16, 0, False), (8, 2, 192, 24, 100, True), (12, 2, 96, 64, 0, True),
    )
    for heads, kv_heads, dim, block_size, window, sinks in shapes:
        ends = [1, 2, 16, 17, 63, 65, 300, 1030]
        batch = Batch(ends, [1] * len(ends), block_size, pad=3)
        cache = new_cache(batch, kv_heads, dim, "normal")
        cuts = ((None, None), (1, False), (3, True), (3, False), (8, True), (16, False), (37, False))
        for splits, cluster in cuts:
            check_attention(checks, f"decode, cluster {cluster},", Attention(
                modules, batch, heads, kv_heads, dim, window, sinks, splits, cluster=cluster), cache)
        for splits, cluster in cuts if dim % 16 == 0 else ():
            for bound, norm in ((0.0, False), (1.5, True)):
                check_fused(checks, modules, batch, heads, kv_heads, dim, window, sinks, splits, cluster, bound, norm)
        ends, counts = [1, 7, 70, 129, 300, 577, 90, 40], [1, 7, 70, 129, 45, 200, 1, 0]
        batch = Batch(ends, counts, block_size)
        cache = new_cache(batch, kv_heads, dim, "normal")
        for keys in (0,) if hopper_keys(dim, window) == 0 else (0, 64, 128):
            check_attention(checks, f"prefill {keys}",
                            Attention(modules, batch, heads, kv_heads, dim, window, sinks, keys=keys), cache)
            # Large scores: a softmax that is nearly one-hot.
            check_attention(checks, f"sharp prefill {keys}",
                            Attention(modules, batch, heads, kv_heads, dim, window, sinks, scale=3.0, keys=keys), cache)
    # What lies in the cache beyond a sequence's end, or in its own last block, must not matter.
    batch = Batch([19, 35], [1, 12], 16)
    cache = new_cache(batch, 2, 64, math.nan)
    for s, end in enumerate(batch.ends):
        block, place = batch.slots(s, end)
        cache[block, :, :, place] = torch.randn(end, 2, 2, 64, device="cuda").bfloat16()
    check_attention(checks, "prefill, leftovers", Attention(modules, batch, 4, 2, 64), cache)
    batch.counts, batch.real, batch.rows = [1, 1], 2, 2
    batch.positions = torch.tensor([18, 34], dtype=torch.int32, device="cuda")
    batch.row_start = torch.tensor([0, 1, 2], dtype=torch.int32, device="cuda")
    check_attention(checks, "decode, leftovers", Attention(modules, batch, 4, 2, 64), cache)
    print(f"checks passed: {checks.passed}, failed: {checks.failed}")
    return checks.failed


def timed(calls, caches, repeats):
    """Median time of a call; caches in turn, so that together they are larger than the L2."""
    def body():
        for i in range(repeats):
            calls(caches[i % len(caches)])
    return gpu.median_us(gpu.capture(body), repeats)


def time_decode(modules, name, sequences, length, heads, kv_heads, dim, window=0, sinks=False, splits=None):
    batch = Batch([length] * sequences, [1] * sequences, 16)
    keys = length if window == 0 else min(window, length)
    size = sequences * keys * kv_heads * dim * 4
    caches = [new_cache(batch, kv_heads, dim, "normal") for _ in range(max(2, min(16, -(-200_000_000 // size))))]
    call = Attention(modules, batch, heads, kv_heads, dim, window, sinks, splits)
    us = timed(call, caches, 2 * len(caches))
    limit = size / BANDWIDTH * 1e6
    print(f"decode  {name:8} {sequences:4} x {length:6} window {window:4} splits {call.splits:3} of {call.part:3}: {us:8.2f} us, "
          f"limit {limit:8.2f} us, {limit / us * 100:3.0f} %")


def time_prefill(modules, name, sequences, length, heads, kv_heads, dim, window=0, sinks=False, cached=0, keys=None):
    batch = Batch([length + cached] * sequences, [length] * sequences, 16)
    cache = new_cache(batch, kv_heads, dim, "normal")
    call = Attention(modules, batch, heads, kv_heads, dim, window, sinks, keys=keys)
    us = timed(call, [cache], 3)
    pairs = sum(min(p + 1, window or p + 1) for p in range(cached, cached + length))
    flops = 4 * sequences * heads * dim * pairs
    print(f"prefill {name:8} {sequences:4} x {length:6} + {cached:6} window {window:4} keys {call.keys:3}: {us:9.1f} us, "
          f"{flops / us / 1e6:5.0f} TFLOP/s")


def time_mixed(modules, sequences, length, rows):
    batch = Batch([length] * sequences + [rows], [1] * sequences + [rows], 16)
    cache = new_cache(batch, 4, 128, "normal")
    us = timed(Attention(modules, batch, 32, 4, 128), [cache], 4)
    print(f"mixed   qwen3    {sequences:4} x {length:6} and {rows} rows: {us:9.1f} us")


def time_rope(modules, rows, heads, kv_heads, dim, norm):
    batch = Batch([1000] * rows, [1] * rows, 16)
    x = [Rows(torch.randn(rows, h * dim, device="cuda")) for h in (heads, kv_heads, kv_heads)]
    cache = new_cache(batch, kv_heads, dim)
    turns = torch.rand(dim // 2, device="cuda", dtype=torch.float64)
    weight = torch.ones(dim, device="cuda") if norm else None
    kernel = modules["rope"].kernel("rope_store")
    parts = rope_parts(rows, heads + 2 * kv_heads, dim)
    us = timed(lambda c: kernel((-(-rows * parts // 8),), 256, sum([m.arguments() for m in x], []) + [
        batch.positions, batch.sequence, batch.tables, batch.stride, heads, kv_heads, dim, turns, 1.0, 0.0, weight,
        weight, 1e-6, c, 16, rows, parts], dependent=True), [cache], 20)
    size = rows * dim * 2 * (2 * heads + 4 * kv_heads + kv_heads)
    print(f"rope    {rows:5} rows, heads {heads}/{kv_heads} x {dim}: {us:7.2f} us, limit {size / BANDWIDTH * 1e6:6.2f}")


def time_all(modules):
    for rows in (1, 8, 32, 256, 8192):
        time_rope(modules, rows, 32, 4, 128, True)
    time_rope(modules, 32, 64, 8, 64, False)
    for sequences, length in ((1, 128), (1, 1024), (1, 8192), (1, 32768), (8, 1024), (32, 256), (32, 1024), (64, 1024),
                              (32, 8192), (256, 1024)):
        time_decode(modules, "qwen3", sequences, length, 32, 4, 128)
        if sequences * length <= 65536:
            time_decode(modules, "gpt_oss", sequences, length, 64, 8, 64, 0, True)
    for sequences, length, cuts in ((1, 256, (1, 2, 4)), (1, 1024, (1, 2, 4, 8, 16)), (1, 8192, (8, 16, 33, 66)),
                                    (1, 32768, (33, 66, 132)), (8, 1024, (1, 2, 4, 6, 8)), (8, 4096, (2, 4, 8, 16)),
                                    (16, 1024, (1, 2, 4)), (32, 1024, (1, 2, 3)), (32, 8192, (1, 2, 4, 8, 16)),
                                    (64, 1024, (1, 2)), (128, 2048, (1, 2, 4))):
        for splits in cuts:
            time_decode(modules, "qwen3", sequences, length, 32, 4, 128, splits=splits)
            time_decode(modules, "gpt_oss", sequences, length, 64, 8, 64, splits=splits)
    time_decode(modules, "gpt_oss", 32, 1024, 64, 8, 64, 128, True)
    time_decode(modules, "gpt_oss", 1, 8192, 64, 8, 64, 128, True)
    for sequences, length, cached in ((1, 128, 0), (1, 512, 0), (1, 512, 4096), (1, 2048, 0), (8, 1024, 0), (1, 8192, 0)):
        time_prefill(modules, "qwen3", sequences, length, 32, 4, 128, cached=cached)
        time_prefill(modules, "gpt_oss", sequences, length, 64, 8, 64, 0, True, cached)
    time_prefill(modules, "gpt_oss", 8, 1024, 64, 8, 64, 128, True)
    time_mixed(modules, 31, 1024, 512)
    time_mixed(modules, 7, 32768, 512)
    time_prefill(modules, "llama", 8, 1024, 32, 8, 128)
    time_prefill(modules, "d256", 4, 1024, 16, 2, 256)


def main():
    files = {"rope": "rope", "decode": "attention_decode", "prefill": "attention_prefill", "hopper": "attention_hopper"}
    modules = {key: gpu.Module(f"{sys.argv[1]}/{name}.fatbin") for key, name in files.items()}
    what = sys.argv[2] if len(sys.argv) > 2 else ""
    failed = check(modules) if what != "time" else 0
    if what != "check":
        time_all(modules)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
