"""A batch of LoRA work on the GPU: builds device buffers, launches the kernels, computes the reference."""

import struct
import time

import numpy as np
import torch

import plan
from layout import padded, unpack_a, unpack_b

TARGETS = 3


def device(values, dtype):
    return torch.as_tensor(np.asarray(values if len(values) else [0], dtype)).cuda()


class Kernels:
    """The launches that make up one LoRA operation: shrink, then expand, each for few and for many rows; for routed
    layers a plan before and, for sums, combine after them."""

    SHRINK_THREADS, EXPAND_THREADS, PLAN_THREADS, COMBINE_THREADS = 256, 128, 1024, 128
    MANY_SHRINK_SHARED, PLAN_SHARED = (64 + 48) * 1024, 200 * 1024

    def __init__(self, decode, rows, experts):
        self.shrink, self.expand = decode.kernel("lora_shrink"), decode.kernel("lora_expand")
        self.shrink_large = decode.kernel("lora_shrink_large")
        self.shrink_rows = rows.kernel("lora_shrink_rows", self.MANY_SHRINK_SHARED)
        self.expand_rows = rows.kernel("lora_expand_rows")
        self.plan, self.combine = experts.kernel("lora_plan", self.PLAN_SHARED), experts.kernel("lora_combine")
        self.plan_few = experts.kernel("lora_plan_few", self.PLAN_SHARED)


def targets(names, count, ys, features, shares):
    """Up to three LoraTarget structures. names: address of the first target's, `count` per target."""
    out = [struct.pack("<QQqii", names + 8 * count * t, y.data_ptr(), y.stride(0), n, s)
           for t, (y, n, s) in enumerate(zip(ys, features, shares))]
    return out + [bytes(32)] * (TARGETS - len(out))


class Tiles:
    """Tiles and names in device memory, of one launch."""

    def __init__(self, launch, names):
        """names: of a group, one per target."""
        self.count, self.shares, self.most = len(launch.tiles), launch.shares, launch.most
        self.rows = device([begin | rows << 32 for begin, rows, _ in launch.tiles], np.int64)
        self.names = device(np.array([names(g) for _, _, g in launch.tiles], np.int64).T.reshape(-1), np.int64) \
            if launch.tiles else None


def launch_few_shrink(kernels, rows, names, count, shares, cluster, splits, arguments, dependent, planned=False):
    """Much work is shared out among as many clusters as run at once."""
    if cluster * splits * count * shares >= (plan.LARGE_PLANNED if planned else plan.LARGE):
        clusters = max(1, plan.SHRINK_AT_ONCE // cluster)
        kernels.shrink_large((cluster * clusters,), kernels.SHRINK_THREADS, [rows, names, count, shares, splits, *arguments],
                             cluster=cluster, dependent=dependent)
    else:
        kernels.shrink((cluster * splits, count, shares), kernels.SHRINK_THREADS, [rows, names, *arguments], cluster=cluster,
                       dependent=dependent)


def split(y, features):
    """Views of y, one per target."""
    return [part for part in torch.split(y, list(features), 1)]


class Work:
    """One operation whose tiles are made on the host (dense sites).

    x_rows, y_rows, factors: per sorted row; factors may be None. v: workspace that works may share."""

    def __init__(self, groups, hidden, features, x, x_rows, y, y_rows, factors, add, v):
        started = time.perf_counter()
        shrink, expand = plan.shrink_plan(groups, hidden), plan.expand_plan(groups, features)
        self.plan_seconds = time.perf_counter() - started
        self.cluster, self.splits = plan.clusters(hidden)
        self.rows, self.features, self.ys = len(x_rows), features, split(y, features)
        self.stride = max([sum(g.site.ranks) for g in groups] + [16])
        self.shrink = [Tiles(s, lambda g: [g.site.a_name]) for s in shrink]
        self.expand = [Tiles(e, lambda g: g.site.b_names) for e in expand]
        self.hidden, self.x, self.add, self.v = hidden, x, add, v
        self.x_rows, self.y_rows = device(x_rows, np.int32), device(y_rows, np.int32)
        self.factors = None if factors is None else device(factors, np.float32)
        assert self.splits * self.rows * self.stride <= v.numel()

    def launch(self, kernels, dependent=False):
        """dependent: overlaps what is before it (the shrink kernel waits for it by itself)."""
        arguments = [0, self.x, ("l", self.x.stride(0)), self.x_rows, self.hidden, self.v, self.stride, self.rows]
        before = dependent
        few, many = self.shrink
        if few.count:
            launch_few_shrink(kernels, few.rows, few.names, few.count, few.shares, self.cluster, self.splits, arguments, before)
            before = True
        if many.count:
            kernels.shrink_rows((self.cluster * self.splits, many.count, many.shares), kernels.SHRINK_THREADS,
                                [many.rows, many.names, *arguments], cluster=self.cluster, dependent=before)
            before = True
        arguments = [self.v, self.stride, self.rows, self.splits, self.y_rows, self.factors, int(self.add)]
        few, many = self.expand
        if few.count:
            kernels.expand((few.count, sum(few.shares)), kernels.EXPAND_THREADS,
                           [few.rows, *targets(few.names.data_ptr(), few.count, self.ys, self.features, few.shares), few.most,
                            *arguments], dependent=before)
            before = True
        if many.count:
            kernels.expand_rows((many.count, sum(many.shares)), kernels.EXPAND_THREADS,
                                [many.rows, *targets(many.names.data_ptr(), many.count, self.ys, self.features, many.shares),
                                 *arguments], dependent=before)


class RoutedWork:
    """One operation of a routed layer, planned on the device.

    sites: per group an array of LoraExpert in device memory (or None), as `experts_table` makes it; experts, weights:
    [rows, topK] tensors, weights may be None; group_of: per row, -1 for none. combine: a tensor that takes the sums of y's
    rows, which is written then, not added to."""

    def __init__(self, kernels, sites, expert_count, group_of, experts, weights, hidden, features, rank, stacked, x, y, add, v,
                 combine=None, blocks=None):
        self.routed, self.top_k = experts.numel(), experts.shape[1]
        self.hidden, self.features, self.x, self.y, self.add, self.v = hidden, features, x, y, add, v
        self.groups, self.expert_count, self.combine = len(sites), expert_count, combine
        self.experts, self.weights, self.ys = experts.int().contiguous(), weights, split(y, features)
        self.group_of = torch.as_tensor(group_of, dtype=torch.int32).cuda()
        self.sites = device([0 if s is None else s.data_ptr() for s in sites], np.int64)
        self.per_choice = x.shape[0] == self.routed
        self.tiling = t = plan.Routed(self.routed, self.groups, expert_count, hidden, features, rank, stacked)
        self.blocks = t.blocks if blocks is None else blocks
        self.cluster, self.splits = plan.clusters(hidden)
        self.stride = stacked

        def fresh(count, dtype):
            return torch.full((max(count, 1),), -1, dtype=dtype, device="cuda")

        self.x_rows, self.y_rows = fresh(self.routed, torch.int32), fresh(self.routed, torch.int32)
        self.factors = None if weights is None else fresh(self.routed, torch.float32)
        self.hits = fresh(self.routed, torch.int8) if combine is not None else None
        self.shrink, self.shrink_names = fresh(t.shrink_tiles, torch.int64), fresh(t.shrink_tiles, torch.int64)
        self.expand = fresh(t.expand_tiles, torch.int64)
        self.expand_names = fresh(t.expand_tiles * len(features), torch.int64)

    def launch_plan(self, kernels, dependent=False):
        t = self.tiling
        fetched = int(self.routed <= plan.FETCH_TABLES)
        arguments = [self.group_of, self.sites, self.experts, self.weights, self.routed, self.top_k, self.groups,
                     self.expert_count, len(self.features), int(self.per_choice), t.shrink_rows, t.shrink_tiles,
                     t.expand_rows, t.expand_tiles, fetched * 8 * -(-self.hidden // plan.SHRINK_K),
                     fetched * (16 + 8 * max(-(-n // 64) for n in self.features)), self.x_rows, self.y_rows, self.factors, self.hits,
                     self.shrink, self.shrink_names, self.expand, self.expand_names]
        pairs = self.groups * self.expert_count
        if self.blocks == 0:
            kernels.plan_few((1,), min(kernels.PLAN_THREADS, max(128, -(-self.routed // 32) * 32)), arguments,
                             dependent=dependent, shared=12 * pairs)
        else:
            kernels.plan((self.blocks,), kernels.PLAN_THREADS, arguments, cluster=self.blocks, dependent=dependent,
                         shared=4 * pairs)

    def launch_products(self, kernels, planned=True, dependent=True):
        t = self.tiling
        arguments = [int(planned), self.x, ("l", self.x.stride(0)), self.x_rows, self.hidden, self.v, self.stride, self.routed]
        if t.many_shrink:
            kernels.shrink_rows((self.cluster * self.splits, t.shrink_tiles, t.shrink_shares), kernels.SHRINK_THREADS,
                                [self.shrink, self.shrink_names, *arguments], cluster=self.cluster, dependent=dependent)
        else:
            launch_few_shrink(kernels, self.shrink, self.shrink_names, t.shrink_tiles, t.shrink_shares, self.cluster,
                              self.splits, arguments, dependent, True)
        names = targets(self.expand_names.data_ptr(), t.expand_tiles, self.ys, self.features, t.expand_shares)
        arguments = [self.v, self.stride, self.routed, self.splits, self.y_rows, self.factors, int(self.add)]
        if t.many_expand:
            kernels.expand_rows((t.expand_tiles, sum(t.expand_shares)), kernels.EXPAND_THREADS,
                                [self.expand, *names, *arguments], dependent=True)
        else:
            kernels.expand((t.expand_tiles, sum(t.expand_shares)), kernels.EXPAND_THREADS,
                           [self.expand, *names, t.most, *arguments], dependent=True)
        if self.combine is not None:
            columns = self.features[0]
            kernels.combine((-(-columns // 8 // kernels.COMBINE_THREADS), self.routed // self.top_k),
                            kernels.COMBINE_THREADS,
                            [self.y, ("l", self.y.stride(0)), self.hits, self.top_k, columns, self.combine,
                             ("l", self.combine.stride(0))], dependent=True)

    def launch(self, kernels, dependent=False):
        self.launch_plan(kernels, dependent)
        self.launch_products(kernels)


def experts_table(sites):
    """LoraExpert structures in device memory. sites: per expert a pages.Site or None."""
    words = []
    for site in sites:
        names = [0] * 4 if site is None else [site.a_name, *site.b_names] + [0] * (TARGETS - len(site.b_names))
        words += [int(n) for n in names]
    return torch.as_tensor(np.array(words, np.uint64).view(np.int64)).cuda()


def reference(pages, groups, hidden, features, x, x_rows, y, y_rows, factors, add):
    """y in float32; where no group has a target, y as it was."""
    out = y.float()
    x_rows, y_rows = torch.as_tensor(x_rows).cuda().long(), torch.as_tensor(y_rows).cuda().long()
    factor = None if factors is None else torch.as_tensor(factors, dtype=torch.float32).cuda()
    for g in groups:
        rank = sum(g.site.ranks)
        if not g.count or not rank:
            continue
        a, bs = g.site.read(pages)
        rows = slice(g.begin, g.begin + g.count)
        v = x[x_rows[rows]].float() @ unpack_a(a, rank, padded(hidden, 32))[:, :hidden].float().T
        if factor is not None:
            v = v * factor[rows, None]
        at = offset = 0
        for b, r, n, scale in zip(bs, g.site.ranks, features, g.site.scales):
            if r:
                full = unpack_b(b, -(-n // 64) * 64, r).float()[:n]
                delta = scale * (v[:, offset : offset + r] @ full.T)
                out[y_rows[rows], at : at + n] = delta + (out[y_rows[rows], at : at + n] if add else 0)
            at += n
            offset += r
    return out


def error(out, expected):
    """Relative error in the norm; NaN counts as infinite."""
    e = ((out.float() - expected).norm() / expected.norm()).item()
    return e if e == e else float("inf")
