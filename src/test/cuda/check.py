"""Correctness of the LoRA kernels on shapes that the timed cases leave out, against float32."""

import torch

import plan
from layout import pack_a, pack_b, pad, padded
from lora import RoutedWork, Work, error, experts_table, reference
from pages import Pages, Site

TOLERANCE = 4e-3  # one rounding of the product, one of the sum
FEW, MIXED, MANY = (1 << 30, 0, 1 << 30, 0), (48, 0, 17, 0), (1, 0, 1, 0)  # thresholds of the plan


def site(pages, hidden, features, ranks, generator, scales=None):
    """A random adapter with the zero padding that a loader would leave."""
    def random(rows, columns, scale):
        return (torch.randn(rows, columns, device="cuda", generator=generator) * scale).bfloat16()

    made = Site(pages, hidden, features, [padded(r, 16) for r in ranks], scales)
    stacked = [pad(random(r, hidden, hidden ** -0.5), padded(r, 16), padded(hidden, 32)) for r in ranks if r]
    bs = [pack_b(pad(random(n, r, r ** -0.5), padded(n, 64), padded(r, 16))) if r else None
          for n, r in zip(features, ranks)]
    made.write(pages, pack_a(torch.cat(stacked)) if stacked else None, bs)
    return made


def batch(pages, hidden, features, adapters, generator, scaled=False, shared_x=1):
    """adapters: (rows, ranks per target). shared_x: sorted rows that share one row of x, as routed experts do."""
    pages.clear()
    groups, begin = [], 0
    for count, ranks in adapters:
        scales = [0.25 + 0.5 * ((count + t) % 4) for t in range(len(ranks))]
        groups.append(plan.Group(begin, count, site(pages, hidden, features, ranks, generator, scales)))
        begin += count
    pages.flush()
    rows = max(begin, 1)
    x = torch.randn(-(-rows // shared_x), hidden, device="cuda", generator=generator).bfloat16()
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(begin))
    return dict(groups=groups, hidden=hidden, features=features, x=x, x_rows=(order // shared_x).tolist(),
                y_rows=order.tolist(), factors=torch.rand(rows).tolist() if scaled else None)


def run(kernels, pages, work, add):
    rows, width = len(work["x_rows"]), sum(work["features"])
    torch.manual_seed(rows)
    y = torch.randn(rows, width, device="cuda").bfloat16()
    v = torch.full((1 << 23,), float("nan"), device="cuda")
    expected = reference(pages, y=y, add=add, **work)
    Work(y=y, add=add, v=v, **work).launch(kernels)
    torch.cuda.synchronize()
    return y, expected


CASES = [
    # name, hidden, features, adapters (rows, ranks), options
    ("one token, rank 8", 576, (576,), [(1, (8,))], {}),
    ("mixed ranks", 576, (192,), [(3, (8,)), (1, (64,)), (9, (16,)), (17, (32,)), (2, (48,))], {}),
    ("mixed ranks, wide", 4096, (4096,), [(r, (8 * (1 + r % 8),)) for r in range(1, 20)], {}),
    ("empty groups", 2048, (768,), [(0, (16,)), (5, (16,)), (0, (64,)), (1, (32,))], {}),
    ("a target of rank 0", 2048, (768, 768), [(4, (32, 0)), (3, (0, 16)), (2, (0, 0)), (8, (32, 32))], {}),
    ("q, k, v", 576, (576, 192, 192), [(5, (16, 16, 16)), (30, (64, 8, 8)), (1, (0, 0, 24))], {}),
    ("large ranks", 1024, (1024,), [(3, (128,)), (11, (256,)), (70, (96,)), (2, (512,))], {}),
    ("uneven sizes", 2880, (2880,), [(1, (64,)), (130, (16,)), (65, (32,))], {}),
    ("features of 40", 96, (40,), [(7, (16,)), (8, (24,))], {}),
    ("hidden of 40", 40, (72,), [(3, (8,)), (33, (24,))], {}),
    ("nine chunks", 4616, (96, 72), [(7, (16, 40)), (70, (24, 8))], {}),
    ("routed, scaled", 768, (2048,), [(n % 7, (32,)) for n in range(40)], dict(scaled=True, shared_x=8)),
    ("routed, two targets", 2048, (768, 768), [(n % 5, (32, 32)) for n in range(30)], dict(shared_x=8)),
    ("long reduction", 14336, (4096,), [(2, (64,)), (20, (64,)), (1, (16,))], dict(scaled=True)),
    ("many rows", 4096, (4096,), [(700, (16,)), (333, (64,)), (1, (32,))], {}),
]

ROUTED = [
    # rows, topK, experts, groups, hidden, features, ranks (cycled by expert)
    (1, 2, 8, 1, 1024, (1408, 1408), ((16, 32), (64, 64))),
    (7, 4, 6, 3, 96, (40, 24), ((8, 16), (0, 8), (24, 0))),
    (64, 8, 128, 40, 2048, (768, 768), ((32, 32),)),
    (64, 2, 8, 64, 768, (2048,), ((64,), (8,), (128,))),
    (300, 3, 5, 4, 1432, (2880, 2880), ((64, 64), (16, 0))),
    (1500, 4, 32, 7, 576, (320,), ((32,), (64,), (16,))),
    (2048, 8, 16, 3, 512, (256, 256), ((16, 16),)),
]


def use(thresholds):
    plan.MANY_SHRINK_FROM, plan.MANY_SHRINK_IN_ALL, plan.MANY_EXPAND_FROM, plan.MANY_EXPAND_BLOCKS = thresholds


def fail(message):
    print("CHECK FAILED:", message, flush=True)
    fail.count += 1


fail.count = 0


def check(kernels, log=print, dense=True, routed=True):
    """Prints what is off; returns the largest relative error."""
    worst = 0.0
    defaults = plan.MANY_SHRINK_FROM, plan.MANY_SHRINK_IN_ALL, plan.MANY_EXPAND_FROM, plan.MANY_EXPAND_BLOCKS
    generator = torch.Generator(device="cuda").manual_seed(7)
    pages = Pages(4096, 1 << 20)
    for name, hidden, features, adapters, options in CASES if dense else ():
        work = batch(pages, hidden, features, adapters, generator, **options)
        for add in (False, True):
            outcomes = []
            for thresholds in (FEW, MANY):
                use(thresholds)
                y, expected = run(kernels, pages, work, add)
                outcomes.append(y)
                e = error(y, expected)
                worst = max(worst, e)
                log(f"  {name:24s} {'+=' if add else '= '} {'few ' if thresholds == FEW else 'many'} {e:.2e}")
                if not e <= TOLERANCE:
                    bad = ((y.float() - expected).abs() > 0.05 * (1 + expected.abs())).nonzero()
                    fail(f"{name}, add={add}: {e:.2e}; first off {bad[:3].tolist()} of {len(bad)} in {tuple(y.shape)}")
            if not torch.equal(*outcomes):
                fail(f"{name}, add={add}: the kernels for few and many rows differ")
    for thresholds in (FEW, MIXED, MANY) if dense else ():
        use(thresholds)
        independent(kernels, pages, generator)
    if routed:
        for case in ROUTED:
            for modes in (("add",), ("terms", "combine")):
                layer = RoutedLayer(pages, case, modes[0] == "add", generator)
                for mode in modes:
                    expected = layer.expected(mode)
                    for thresholds in (FEW, MANY, defaults):
                        use(thresholds)
                        for blocks in (0, 1, 8) if layer.experts.numel() <= 1024 else (1, 8):
                            worst = max(worst, layer.check(kernels, mode, blocks, expected, log))
    use(defaults)
    print("failed checks:", fail.count)
    return worst


def independent(kernels, pages, generator):
    """The rows of one adapter come out bit by bit the same alone, in a batch, and again."""
    adapters = [(5, (64,)), (40, (16,)), (1, (32,)), (90, (64,))]
    work = batch(pages, 4096, (4096,), adapters, generator)
    together, _ = run(kernels, pages, work, add=False)
    again, _ = run(kernels, pages, work, add=False)
    if not torch.equal(together, again):
        fail("two runs differ")
    for group in work["groups"]:
        rows = slice(group.begin, group.begin + group.count)
        for size in {1, group.count}:
            alone = plan.Group(0, size, group.site)
            part = dict(work, groups=[alone], x_rows=work["x_rows"][rows][:size], y_rows=list(range(size)))
            y, _ = run(kernels, pages, part, add=False)
            if not torch.equal(y, together[work["y_rows"][rows][:size]]):
                fail("a row depends on what shares its batch")


class RoutedLayer:
    """Routing, groups and absent experts at random; rows without a group, and padded ones."""

    def __init__(self, pages, case, add, generator):
        rows, self.top_k, self.expert_count, groups, self.hidden, features, ranks = case
        if not add:
            features, ranks = features[:1], [r[:1] for r in ranks]
        self.pages, self.features, self.add = pages, features, add
        pages.clear()
        host = torch.Generator().manual_seed(rows)
        adapters = []
        for g in range(groups):
            if g == 1 and groups > 2:
                adapters.append([None] * self.expert_count)
            elif g >= 3 and groups * self.expert_count > 600:
                adapters.append(adapters[g % 3])
            else:
                adapters.append([self.site(ranks[(e + g) % len(ranks)], e + g, generator)
                                 for e in range(self.expert_count)])
        pages.flush()
        self.sites = [experts_table(a) if any(a) else None for a in adapters]
        self.experts = torch.stack([torch.randperm(self.expert_count, generator=host)[: self.top_k] for _ in range(rows)])
        self.group_of = torch.randint(-1, groups, (rows,), generator=host)
        if rows > 5:
            self.experts[-2:] = -1
        self.weights = None if add else torch.rand(rows, self.top_k, generator=host)
        self.x = torch.randn(rows if add else rows * self.top_k, self.hidden, device="cuda", generator=generator).bfloat16()
        self.y = torch.randn(rows * self.top_k, sum(features), device="cuda", generator=generator).bfloat16()
        self.out = torch.randn(rows, features[0], device="cuda", generator=generator).bfloat16()
        pairs = {}
        for i, (g, chosen) in enumerate(zip(self.group_of.tolist(), self.experts.tolist())):
            for j, e in enumerate(chosen):
                if g >= 0 and e >= 0 and adapters[g][e] is not None:
                    pairs.setdefault((g, e), []).append(i * self.top_k + j)
        self.order, self.groups = [], []
        for (g, e), members in pairs.items():
            self.groups.append(plan.Group(len(self.order), len(members), adapters[g][e]))
            self.order += members
        self.rank = padded(max(max(r) for r in ranks), 16)
        self.stacked = max(sum(padded(v, 16) for v in r) for r in ranks)
        self.label = f"routed {rows} x {self.top_k} of {self.expert_count}, {groups} groups"

    def site(self, ranks, number, generator):
        scales = [0.5 + t for t in range(len(self.features))]
        present = number % 5 and sum(ranks)
        return site(self.pages, self.hidden, self.features, ranks, generator, scales) if present else None

    def expected(self, mode):
        x_rows = [i // self.top_k for i in self.order] if self.add else self.order
        factors = None if self.add else self.weights.reshape(-1)[self.order]
        y = torch.zeros_like(self.y) if mode == "combine" else self.y
        terms = reference(self.pages, self.groups, self.hidden, self.features, self.x, torch.tensor(x_rows, dtype=torch.long),
                          y, torch.tensor(self.order, dtype=torch.long), factors, mode != "combine")
        return terms if mode != "combine" else self.out.float() + terms.reshape(self.out.shape[0], self.top_k, -1).sum(1)

    def check(self, kernels, mode, blocks, expected, log):
        y, combine = self.y.clone(), self.out.clone() if mode == "combine" else None
        v = torch.full((1 << 24,), float("nan"), device="cuda")
        work = RoutedWork(kernels, self.sites, self.expert_count, self.group_of, self.experts.cuda(),
                          None if self.add else self.weights.cuda(), self.hidden, self.features, self.rank, self.stacked,
                          self.x, y, combine is None, v, combine, blocks)
        work.launch(kernels)
        torch.cuda.synchronize()
        out = y if combine is None else combine
        e = error(out, expected)
        label = f"{self.label}, {mode}, {blocks} blocks"
        log(f"  {label:60s} {e:.2e}")
        if not e <= TOLERANCE:
            bad = ((out.float() - expected).abs() > 0.05 * (1 + expected.abs())).nonzero()
            fail(f"{label}: {e:.2e}; first off {bad[:3].tolist()} of {len(bad)} in {tuple(out.shape)}; tiles "
                 f"{[hex(w) for w in work.shrink[:4].tolist()]} {[hex(w) for w in work.expand[:4].tolist()]}")
        return e
