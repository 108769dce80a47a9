"""Correctness of the LoRA kernels on shapes that the timed cases leave out, against float32."""

import torch

import plan
from layout import pack_a, pack_b, pad, padded
from lora import Work, error, reference

TOLERANCE = 3e-3
FEW, MIXED, MANY = (1 << 30, 0, 1 << 30), (48, 0, 17), (1, 0, 1)  # thresholds of the plan


def adapter(hidden, features, ranks, generator):
    """Packed A of all targets and packed B of each, random, with the zero padding that a loader would leave."""
    def random(rows, columns, scale):
        return (torch.randn(rows, columns, device="cuda", generator=generator) * scale).bfloat16()

    stacked = [pad(random(r, hidden, hidden ** -0.5), padded(r, 16), hidden) for r in ranks if r]
    a = pack_a(torch.cat(stacked)) if stacked else torch.zeros(8, device="cuda", dtype=torch.bfloat16)
    bs = [pack_b(pad(random(n, r, r ** -0.5), padded(n, 64), padded(r, 16))) if r
          else torch.zeros(8, device="cuda", dtype=torch.bfloat16) for n, r in zip(features, ranks)]
    return a, bs


def batch(hidden, features, adapters, generator, scaled=False, shared_x=1):
    """adapters: (rows, ranks per target). shared_x: sorted rows that share one row of x, as routed experts do."""
    memory, groups, begin = {}, [], 0
    for count, ranks in adapters:
        a, bs = adapter(hidden, features, ranks, generator)
        group = plan.Group(begin, count, a.data_ptr(), [(b.data_ptr(), padded(r, 16)) for b, r in zip(bs, ranks)])
        memory[group] = a, bs
        groups.append(group)
        begin += count
    rows = max(begin, 1)
    x = torch.randn(-(-rows // shared_x), hidden, device="cuda", generator=generator).bfloat16()
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(begin))
    return dict(groups=groups, hidden=hidden, features=features, x=x, x_rows=(order // shared_x).tolist(),
                y_rows=order.tolist(), scale=torch.rand(rows).tolist() if scaled else None), memory


def run(kernels, work, memory, add):
    rows, width = len(work["x_rows"]), sum(work["features"])
    torch.manual_seed(rows)
    y = torch.randn(rows, width, device="cuda").bfloat16() if add else torch.full(
        (rows, width), float("nan"), device="cuda").bfloat16()
    v = torch.full((1 << 22,), float("nan"), device="cuda")
    expected = reference(weights=memory.__getitem__, y=y, add=add, **work)
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
    ("q, k, v", 576, (576, 192, 192), [(5, (16, 16, 16)), (30, (64, 8, 8))], {}),
    ("large ranks", 1024, (1024,), [(3, (128,)), (11, (256,)), (70, (96,))], {}),
    ("uneven sizes", 2880, (2880,), [(1, (64,)), (130, (16,)), (65, (32,))], {}),
    ("features of 40", 96, (40,), [(7, (16,)), (8, (24,))], {}),
    ("routed, scaled", 768, (2048,), [(n % 7, (32,)) for n in range(40)], dict(scaled=True, shared_x=8)),
    ("routed, two targets", 2048, (768, 768), [(n % 5, (32, 32)) for n in range(30)], dict(shared_x=8)),
    ("long reduction", 14336, (4096,), [(2, (64,)), (20, (64,)), (1, (16,))], dict(scaled=True)),
    ("many rows", 4096, (4096,), [(700, (16,)), (333, (64,)), (1, (32,))], {}),
]


def use(thresholds):
    plan.MANY_SHRINK_FROM, plan.MANY_SHRINK_IN_ALL, plan.MANY_EXPAND_FROM = thresholds


def check(kernels, log=print):
    """Raises if a case is off; returns the largest relative error."""
    worst = 0.0
    defaults = plan.MANY_SHRINK_FROM, plan.MANY_SHRINK_IN_ALL, plan.MANY_EXPAND_FROM
    generator = torch.Generator(device="cuda").manual_seed(7)
    for name, hidden, features, adapters, options in CASES:
        for add in (False, True):
            work, memory = batch(hidden, features, adapters, generator, **options)
            outcomes = []
            for thresholds in (FEW, MANY):
                use(thresholds)
                y, expected = run(kernels, work, memory, add)
                outcomes.append(y)
                e = error(y, expected)
                worst = max(worst, e)
                log(f"  {name:24s} {'+=' if add else '= '} {'few ' if thresholds == FEW else 'many'} {e:.2e}")
                if not e <= TOLERANCE:
                    raise SystemExit(f"check failed: {name}, add={add}: {e:.2e}")
            if not torch.equal(*outcomes):
                raise SystemExit(f"check failed: {name}, add={add}: the kernels for few and many rows differ")
    for thresholds in (FEW, MIXED, MANY):
        use(thresholds)
        independent(kernels, generator)
    use(defaults)
    return worst


def independent(kernels, generator):
    """The rows of one adapter come out bit by bit the same alone, in a batch, and again."""
    adapters = [(5, (64,)), (40, (16,)), (1, (32,)), (90, (64,))]
    work, memory = batch(4096, (4096,), adapters, generator)
    together, _ = run(kernels, work, memory, add=False)
    again, _ = run(kernels, work, memory, add=False)
    assert torch.equal(together, again), "two runs differ"
    for group in work["groups"]:
        rows = slice(group.begin, group.begin + group.count)
        for size in {1, group.count}:
            alone = plan.Group(0, size, group.a, group.targets)
            part = dict(work, groups=[alone], x_rows=work["x_rows"][rows][:size], y_rows=list(range(size)))
            y, _ = run(kernels, part, {alone: memory[group]}, add=False)
            assert torch.equal(y, together[work["y_rows"][rows][:size]]), "a row depends on what shares its batch"
