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
