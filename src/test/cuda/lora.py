"""A batch of LoRA work on the GPU: builds device buffers from groups, launches the kernels, computes the reference."""

import time

import torch

import plan
from layout import unpack_a, unpack_b

SHRINK_THREADS, EXPAND_THREADS = 256, 128


def to_device(array):
    if not len(array):
        return torch.zeros(32, dtype=torch.uint8, device="cuda")
    return torch.frombuffer(bytearray(array.tobytes()), dtype=torch.uint8).cuda()


class Kernels:
    """The pair of launches that makes up one LoRA operation."""

    def __init__(self, module):
        self.shrink = module.kernel("lora_shrink")
        self.expand = module.kernel("lora_expand")


class Work:
    """One operation: plan in device memory, buffers, and its launch.

    x_rows, y_rows, scale: per sorted row (lists or tensors; scale may be None). v: workspace that works may share.
    """

    def __init__(self, groups, hidden, features, x, x_rows, y, y_rows, scale, add, v):
        started = time.perf_counter()
        shrink_segments, shrink_items = plan.shrink_plan(groups, hidden)
        expand_segments, expand_items = plan.expand_plan(groups, features, add)
        self.plan_seconds = time.perf_counter() - started
        self.cluster, self.splits = plan.clusters(hidden)
        self.rows = len(x_rows)
        self.stride = max([sum(r for _, r in g.targets) for g in groups] + [16])
        self.shrink_count, self.expand_count = len(shrink_items), len(expand_items)
        self.shrink_arrays = [to_device(shrink_segments), to_device(shrink_items), count_of(shrink_items)]
        self.expand_arrays = [to_device(expand_segments), to_device(expand_items), count_of(expand_items)]
        self.hidden, self.x, self.y, self.add, self.v = hidden, x, y, add, v
        self.x_rows = torch.as_tensor(x_rows, dtype=torch.int32).cuda()
        self.y_rows = torch.as_tensor(y_rows, dtype=torch.int32).cuda()
        self.scale = None if scale is None else torch.as_tensor(scale, dtype=torch.float32).cuda()
        assert self.splits * self.rows * self.stride <= v.numel()

    def launch(self, kernels):
        if self.shrink_count:
            kernels.shrink((self.cluster * self.splits, self.shrink_count), SHRINK_THREADS,
                           [*self.shrink_arrays, self.x, ("l", self.x.stride(0)), self.x_rows, self.hidden, self.v,
                            self.stride, self.rows], cluster=self.cluster)
        if self.expand_count:
            kernels.expand((self.expand_count,), EXPAND_THREADS,
                           [*self.expand_arrays, self.v, self.stride, self.rows, self.splits, self.y_rows, self.scale,
                            self.y, ("l", self.y.stride(0)), int(self.add)], dependent=self.shrink_count > 0)


def count_of(items):
    return torch.tensor([len(items)], dtype=torch.int32, device="cuda")


def reference(groups, weights, hidden, features, x, x_rows, y, y_rows, scale, add):
    """y in float32. weights(group) gives packed A and the targets' packed B as tensors."""
    out = y.float() if add else torch.zeros_like(y, dtype=torch.float32)
    x_rows, y_rows = torch.as_tensor(x_rows).cuda().long(), torch.as_tensor(y_rows).cuda().long()
    factor = None if scale is None else torch.as_tensor(scale, dtype=torch.float32).cuda()
    for g in groups:
        if not g.count:
            continue
        a, bs = weights(g)
        rows = slice(g.begin, g.begin + g.count)
        rank = sum(r for _, r in g.targets)
        v = x[x_rows[rows]].float() @ unpack_a(a, rank, hidden).float().T if rank else None
        if factor is not None and v is not None:
            v = v * factor[rows, None]
        at = offset = 0
        for b, (_, r), n in zip(bs, g.targets, features):
            if r:
                full = unpack_b(b, -(-n // 64) * 64, r).float()[:n]
                out[y_rows[rows], at : at + n] += v[:, offset : offset + r] @ full.T
            at += n
            offset += r
    return out


def error(out, expected):
    """Relative error in the norm; NaN counts as infinite."""
    e = ((out.float() - expected).norm() / expected.norm()).item()
    return e if e == e else float("inf")
