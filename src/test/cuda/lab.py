"""Checks and times the LoRA kernels on the GPU of this machine; docs/performance-cuda.md says how.

usage: lab.py DIRECTORY [--help]
"""

import argparse
import csv
import math
import os
import random
import sys

import torch

import check
import gpu
import plan
from lora import Kernels, RoutedWork, Work, error, experts_table, reference
from pages import Pages, Site

BANDWIDTH = 3.12e12          # bytes/s, measured read bandwidth of the H100 that the anchors were measured on
COLD = 140e6                 # bytes between two uses of the same data: colder than the L2
MODELS = {"mixtral": (8, 2, 4096, 14336, 64), "qwen3_30b": (128, 8, 2048, 768, 32)}  # experts, top-k, hidden, inter, rank


def load_cases():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "anchors.csv")) as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def zipf_counts(tokens, adapters):
    """Rows per adapter: at least one each, the rest by popularity with exponent 1.2."""
    weights = [1 / (i + 1) ** 1.2 for i in range(adapters)]
    spare = tokens - adapters
    exact = [spare * w / sum(weights) for w in weights]
    counts = [1 + int(e) for e in exact]
    for i in sorted(range(adapters), key=lambda i: exact[i] % 1, reverse=True)[: tokens - sum(counts)]:
        counts[i] += 1
    return counts


class Shape:
    """What a case computes: sizes, and the groups of one random input as (rows of x, rows of y)."""

    def __init__(self, case):
        self.tokens, self.adapters = int(case["tokens"]), int(case["adapters"])
        self.routed = case["model"] != "dense"
        self.scaled = case["projection"] == "down"
        if not self.routed:
            self.hidden, self.rank, self.features, self.copies = 4096, int(case["rank"]), (int(case["features"]),), 1
        else:
            self.experts, self.copies, model, inter, self.rank = MODELS[case["model"]]
            self.hidden = inter if self.scaled else model
            self.features = (model,) if self.scaled else (inter, inter)
        self.rows = self.tokens * self.copies
        self.x_count = self.rows if self.scaled else self.tokens
        self.stacked = self.rank * len(self.features)
        self.a_size = self.stacked * self.hidden
        self.b_sizes = [self.rank * (-(-n // 64) * 64) for n in self.features]

    def draw(self, rng):
        if not self.routed:
            even = self.tokens % self.adapters == 0 and self.tokens >= 2048
            counts = [self.tokens // self.adapters] * self.adapters if even else zipf_counts(self.tokens, self.adapters)
            order = list(range(self.tokens))
            rng.shuffle(order)
            out = []
            for count in counts:
                out.append([(i, i) for i in sorted(order[:count])])
                order = order[count:]
            return out
        groups = {}
        self.experts_of = []
        for token in range(self.tokens):
            self.experts_of.append(rng.sample(range(self.experts), self.copies))
            for slot, expert in enumerate(self.experts_of[-1]):
                row = token * self.copies + slot
                key = (token % self.adapters, expert)
                groups.setdefault(key, []).append((row if self.scaled else token, row))
        self.keys = sorted(groups)
        return [groups[key] for key in self.keys]

    def bytes(self, groups):
        return 2 * (groups * (self.a_size + sum(self.b_sizes)) + self.x_count * self.hidden +
                    self.rows * sum(self.features))


def routed_work(shape, sites, keys, experts_of, kernels, x, y, weights, add, v):
    """The same work planned on the device."""
    tables = []
    for adapter in range(shape.adapters):
        experts = [None] * shape.experts
        for (a, e), site in zip(keys, sites):
            if a == adapter:
                experts[e] = site
        tables.append(experts_table(experts))
    work = RoutedWork(kernels, tables, shape.experts, [t % shape.adapters for t in range(shape.tokens)],
                      torch.tensor(experts_of).cuda(), weights, shape.hidden, shape.features, shape.rank, shape.stacked, x, y,
                      add, v)
    work.tables = tables  # kept alive
    work.launch_plan(kernels)
    return work


def measure(case, pages, kernels, add, quick):
    """Microseconds of the two kernels; of them as they run in a step, chained to what is before them; of the whole operation, which
    for routed layers is planned on the device; of the plan. Error, megabytes, microseconds of the plan on the host."""
    shape = Shape(case)
    rng = random.Random(5)
    draws, total = [], 0
    while total < COLD or len(draws) < 2:
        draws.append((shape.draw(rng), getattr(shape, "keys", None), getattr(shape, "experts_of", None)))
        total += shape.bytes(len(draws[-1][0]))
    pages.clear()
    x = torch.randn(len(draws) * shape.x_count, shape.hidden, device="cuda").bfloat16()
    y = torch.randn(len(draws) * shape.rows, sum(shape.features), device="cuda").bfloat16()
    ranks = (shape.rank,) * len(shape.features)
    _, splits = plan.clusters(shape.hidden)
    v = torch.empty(splits * shape.rows * shape.stacked, device="cuda")
    factors = [rng.random() for _ in range(shape.rows)] if shape.scaled else None
    all_sites = [[Site(pages, shape.hidden, shape.features, ranks) for _ in draw] for draw, _, _ in draws]
    pages.flush()
    works, first, plan_seconds = [], None, []
    for i, ((draw, keys, experts_of), sites) in enumerate(zip(draws, all_sites)):
        xs, ys = x[i * shape.x_count : (i + 1) * shape.x_count], y[i * shape.rows : (i + 1) * shape.rows]
        groups, begin = [], 0
        for rows, site in zip(draw, sites):
            groups.append(plan.Group(begin, len(rows), site))
            begin += len(rows)
        x_rows, y_rows = [r for rows in draw for r, _ in rows], [r for rows in draw for _, r in rows]
        row_factors = None if factors is None else [factors[r] for r in y_rows]
        arguments = dict(groups=groups, hidden=shape.hidden, features=shape.features, x=xs, x_rows=x_rows, y=ys,
                         y_rows=y_rows, factors=row_factors, add=add)
        first = first or arguments
        if shape.routed:
            weights = None if factors is None else torch.tensor(factors, device="cuda").reshape(shape.tokens, shape.copies)
            works.append(routed_work(shape, sites, keys, experts_of, kernels, xs, ys, weights, add, v))
            plan_seconds.append(0)
        else:
            works.append(Work(v=v, **arguments))
            plan_seconds.append(works[-1].plan_seconds)

    expected = reference(pages, **first)
    if shape.routed:
        works[0].launch_products(kernels, planned=False, dependent=False)
    else:
        works[0].launch(kernels)
    torch.cuda.synchronize()
    e = error(first["y"], expected)
    del expected
    operations = max(len(works), 4 if quick else 12)

    def time_of(body):
        graph = gpu.capture(lambda: [body(works[i % len(works)]) for i in range(operations)])
        return gpu.median_us(graph, operations, 5 if quick else 15)

    if shape.routed:
        us = time_of(lambda w: w.launch_products(kernels, planned=False, dependent=False))
        plan_us = time_of(lambda w: w.launch_plan(kernels))
    else:
        us, plan_us = time_of(lambda w: w.launch(kernels)), 0
    whole = time_of(lambda w: w.launch(kernels, dependent=True))
    chained = time_of(lambda w: w.launch_products(kernels, planned=False, dependent=True)) if shape.routed else whole
    mb = sum(shape.bytes(len(d)) for d, _, _ in draws) / len(draws) / 1e6
    return us, chained, whole, plan_us, e, mb, sorted(plan_seconds)[len(works) // 2] * 1e6


def geometric(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("directory", help="of the fatbins")
    options.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of plan.py")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only", default="")
    options.add_argument("--out")
    options.add_argument("--part", type=int, default=0, help="of --parts: every so many-th case")
    options.add_argument("--parts", type=int, default=1)
    options.add_argument("--no-check", action="store_true")
    options.add_argument("--check-only", action="store_true")
    options.add_argument("--checks", choices=("all", "dense", "routed"), default="all")
    options.add_argument("--modes", default="+=")
    options = options.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(1)
    for setting in options.set:
        name, value = setting.split("=")
        setattr(plan, name, type(getattr(plan, name))(value))
    kernels = Kernels(*[gpu.Module(os.path.join(options.directory, f"lora_{name}.fatbin")) for name in ("decode", "rows", "experts")])
    print(torch.cuda.get_device_name(), options.directory)
    if not options.no_check:
        print("largest error of the checks:", check.check(kernels, dense=options.checks != "routed",
                                                                routed=options.checks != "dense"))
    if options.check_only:
        return 0
    pages = Pages(30_000, 8 << 20)
    results, families = [], {}
    for index, case in enumerate(load_cases()):
        name = " ".join(case[k] for k in ("model", "projection", "rank", "features", "tokens", "adapters") if case[k])
        if options.only not in name or index % options.parts != options.part:
            continue
        row = dict(case)
        for mode in options.modes.split(","):
            us, chained, whole, plan_us, e, mb, host_us = measure(case, pages, kernels, mode == "+=", options.quick)
            limit = mb * 1e6 / BANDWIDTH * 1e6
            ratio = float(case["fastest_us"]) / us
            row |= {f"us {mode}": round(us, 2), f"ratio {mode}": round(ratio, 2), f"at {mode}": round(limit / us, 3),
                    f"chained {mode}": round(chained, 2), f"whole {mode}": round(whole, 2)}
            flag = ("" if e <= check.TOLERANCE else " WRONG") + ("" if ratio > 1 else " BEHIND") + (
                " UNDER80" if mb > 50 and limit / us < 0.8 else "")
            print(f"{name:36s} {mode:2s} {mb:7.1f} MB limit {limit:6.1f} ours {us:7.2f} us {100 * limit / us:4.0f} % "
                  f"fastest tried {float(case['fastest_us']):6.1f} x{ratio:5.2f} chained {chained:7.2f} us {100 * limit / chained:4.0f} % whole {whole:7.2f} plan {plan_us:5.2f} us, host {host_us:6.0f} us, err {e:.1e}{flag}", flush=True)
            decode = "prefill" if int(case["tokens"]) >= 2048 else "decode"
            families.setdefault((case["model"], case["projection"], decode, mode), []).append((ratio, mb, limit / us))
            row |= {"limit_us": round(limit, 2), "error": f"{e:.1e}", "plan_us": round(plan_us, 2)}
        results.append(row)
    for key, values in families.items():
        large = [at for _, mb, at in values if mb > 50]
        print(f"{' '.join(key):32s} geometric mean x{geometric([r for r, _, _ in values]):.2f}, least x"
              f"{min(r for r, _, _ in values):.2f}; above 50 MB: {geometric(large):.2f} of the limit, least "
              f"{min(large, default=float('nan')):.2f}")
    for mode in options.modes.split(","):
        ratios = [r for key, values in families.items() if key[3] == mode for r, _, _ in values]
        print(f"all {mode} geometric mean x{geometric(ratios):.2f}")
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, results[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
