"""Checks the kernels of rope.cu and attention.cu against float64 arithmetic of PyTorch, and times them.

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

    def __init__(self, ends, counts, block_size, pad=0):
        self.ends, self.counts, self.block_size = ends, counts, block_size
        self.real = sum(counts)
        self.rows = self.real + pad
        needed = [-(-e // block_size) for e in ends]
        self.stride = max(needed) + 1
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
            for i in reversed(range(-(-count * share // rows))):
                found.append([s, first, count, i * rows])
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


def check_rope(checks, module, positions, heads, kv_heads, dim, block_size, bound, norm, theta, magnitude):
    kernel = module.kernel("rope_store")
    case = f"rope positions {positions} heads {heads}/{kv_heads} dim {dim} bound {bound} norm {norm}"
    batch = Batch([p + 1 for p in positions], [1] * len(positions), block_size, pad=2)
    widths = (heads * dim, kv_heads * dim, kv_heads * dim)
    q, k, v = (Rows(torch.randn(batch.rows, w, device="cuda") * 2) for w in widths)
    before = [x.values() for x in (q, k, v)]
    weights = [1 + torch.randn(dim, device="cuda") / 4 for _ in range(2)] if norm else [None, None]
    cache = new_cache(batch, kv_heads, dim)
    frequencies = theta ** (-2 * torch.arange(dim // 2, device="cuda", dtype=torch.float64) / dim)
    turns = frequencies / (2 * math.pi)
    kernel((batch.rows,), 256, q.arguments() + k.arguments() + v.arguments() + [
        batch.positions, batch.sequence, batch.tables, batch.stride, heads, kv_heads, dim, turns, magnitude, bound,
        weights[0], weights[1], 1e-6, cache, block_size], dependent=True)
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
        out[first : first + count] = torch.einsum("hij,jhd->ihd", weights, values).reshape(count, -1)
        size[first : first + count] = torch.einsum("hij,jhd->ihd", weights, values.abs()).reshape(count, -1)
    return out, size


def splits_of(batch, heads, kv_heads, window, multiprocessors=132, per_multiprocessor=4):
    """AttentionOps.splits."""
    positions = batch.stride * batch.block_size
    positions = positions if window == 0 else min(positions, window + KEYS)
    useful = max(1, positions // (KEYS * THREADS // 32))
    return min(useful, max(1, -(-per_multiprocessor * multiprocessors // (batch.rows * kv_heads))))


class Attention:
    """One call of the operator as AttentionOps launches it."""

    def __init__(self, module, batch, heads, kv_heads, dim, window=0, sinks=False, splits=None, scale=None):
        self.batch, self.heads, self.kv_heads, self.dim, self.window = batch, heads, kv_heads, dim, window
        self.scale = dim ** -0.5 if scale is None else scale
        self.sinks = torch.randn(heads, device="cuda") if sinks else None
        self.q = Rows(torch.randn(batch.rows, heads * dim, device="cuda"))
        self.out = Rows(torch.full((batch.rows, heads * dim), SENTINEL, device="cuda"))
        self.is_decode = all(c == 1 for c in batch.counts)
        group = 1 if dim <= 64 else 2 if dim <= 128 else 4
        self.share = heads // kv_heads
        if self.is_decode:
            self.kernel = module.kernel(f"attention_decode_{group}")
            self.combine = module.kernel("attention_combine")
            self.splits = splits or splits_of(batch, heads, kv_heads, window)
            self.partials = torch.full((batch.rows, heads, self.splits, dim), math.nan, device="cuda")
            self.sums = torch.full((batch.rows, heads, self.splits, 2), math.nan, device="cuda")
        else:
            self.kernel = module.kernel(f"attention_prefill_{group}")
            self.tiles = batch.tiles(self.share)

    def __call__(self, cache):
        batch = self.batch
        arguments = self.q.arguments() + [
            batch.positions, batch.tables, batch.stride, self.heads, self.kv_heads, self.dim, cache, batch.block_size,
            self.window, self.scale, self.sinks] + self.out.arguments()
        if not self.is_decode:
            self.kernel((len(self.tiles), self.kv_heads), THREADS, arguments + [self.tiles], dependent=True)
            return
        head_tiles = -(-self.share // 16)
        self.kernel((self.splits, self.kv_heads * head_tiles, batch.rows), THREADS,
                    arguments + [self.partials, self.sums], dependent=True)
        if self.splits > 1:
            self.combine((self.heads, batch.rows), -(-self.dim // 32) * 32, [
                self.partials, self.sums, self.splits, self.dim, batch.positions, self.sinks] + self.out.arguments(),
                dependent=True)
