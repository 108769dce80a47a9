"""A batch of LoRA work on the GPU: builds device buffers from groups, launches the kernels, computes the reference."""

import time

import torch

import plan
from layout import unpack_a, unpack_b

def to_device(array):
    if not len(array):
        return torch.zeros(32, dtype=torch.uint8, device="cuda")
    return torch.frombuffer(bytearray(array.tobytes()), dtype=torch.uint8).cuda()


class Kernels:
    """The launches that make up one LoRA operation: shrink, then expand, each for few and for many rows."""

    FEW_SHRINK_THREADS, FEW_EXPAND_THREADS = 256, 128
    MANY_SHRINK_THREADS, MANY_EXPAND_THREADS = 256, 128
    MANY_SHRINK_SHARED = (64 + 48) * 1024

    def __init__(self, decode, rows):
        self.shrink, self.expand = decode.kernel("lora_shrink"), decode.kernel("lora_expand")
        self.shrink_rows = rows.kernel("lora_shrink_rows", self.MANY_SHRINK_SHARED)
        self.expand_rows = rows.kernel("lora_expand_rows")


class Items:
    """The items of a shrink or expand in device memory."""

    def __init__(self, launches):
        self.few, self.many = to_device(launches.few), to_device(launches.many)
        self.few_count, self.many_count = len(launches.few), len(launches.many)


class Work:
    """One operation: plan in device memory, buffers, and its launches.

    x_rows, y_rows, scale: per sorted row (lists or tensors; scale may be None). v: workspace that works may share.
    """

    def __init__(self, groups, hidden, features, x, x_rows, y, y_rows, scale, add, v):
        started = time.perf_counter()
        shrink, expand = plan.shrink_plan(groups, hidden), plan.expand_plan(groups, features, add)
        self.plan_seconds = time.perf_counter() - started
        self.cluster, self.splits = plan.clusters(hidden)
        self.rows = len(x_rows)
        self.stride = max([sum(r for _, r in g.targets) for g in groups] + [16])
        self.shrink, self.expand = Items(shrink), Items(expand)
        self.hidden, self.x, self.y, self.add, self.v = hidden, x, y, add, v
        self.x_rows = torch.as_tensor(x_rows, dtype=torch.int32).cuda()
        self.y_rows = torch.as_tensor(y_rows, dtype=torch.int32).cuda()
        self.scale = None if scale is None else torch.as_tensor(scale, dtype=torch.float32).cuda()
        assert self.splits * self.rows * self.stride <= v.numel()

    def launch(self, kernels):
        # Only the first expand may overlap what is before it: it waits for one shrink, and the other is done by then.
        chunks = self.cluster * self.splits
        arguments = [self.x, ("l", self.x.stride(0)), self.x_rows, self.hidden, self.v, self.stride, self.rows]
        s = self.shrink
        if s.few_count:
            kernels.shrink((chunks, s.few_count), kernels.FEW_SHRINK_THREADS, [s.few, *arguments],
                           cluster=self.cluster)
        if s.many_count:
            kernels.shrink_rows((chunks, s.many_count), kernels.MANY_SHRINK_THREADS,
                                [s.many, *arguments], cluster=self.cluster)
        dependent = s.few_count + s.many_count > 0
        arguments = [self.v, self.stride, self.rows, self.splits, self.y_rows, self.scale, self.y,
                     ("l", self.y.stride(0)), int(self.add)]
        e = self.expand
        if e.few_count:
            kernels.expand((e.few_count,), kernels.FEW_EXPAND_THREADS, [e.few, *arguments],
                           dependent=dependent)
        if e.many_count:
            kernels.expand_rows((e.many_count,), kernels.MANY_EXPAND_THREADS, [e.many, *arguments],
                                dependent=dependent and not e.few_count)


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
