"""Checks experts_row.cu: the same bits as gated_activation and matrix_few.cu with as many warps, and near PyTorch.

usage: experts_row.py DIRECTORY    where the fatbins are
"""

import sys

import torch

import gpu

SHAPES = ((40, 48), (24, 8), (8, 24), (512, 1024), (72, 2888), (24, 4104), (2048, 768), (1536, 2048), (48, 776), (2880, 2880), (16, 14336))
failed = 0


def report(name, error, limit):
    global failed
    bad = not error <= limit
    failed += bad
    if bad:
        print(f"FAILED {name}: error {error:.3g}, limit {limit:.3g}")


def bf16(*shape, scale=1.0):
    return (torch.randn(*shape, device="cuda") * scale).bfloat16()


def ints(values):
    return torch.tensor(values, device="cuda", dtype=torch.int32)


def check(few, row, activate, e, top_k, n, k, absent):
    w, bias = bf16(e, n, k, scale=k ** -0.5), torch.randn(e, n, device="cuda") if n % 3 else None
    chosen = torch.randperm(e)[:top_k].tolist()
    if absent:
        chosen[-1] = -1
    experts, sorted_rows = ints(chosen), [j for j in sorted(range(top_k), key=lambda j: chosen[j]) if chosen[j] >= 0]
    active = [chosen[j] for j in sorted_rows]
    plan = [ints([sum(a < i for a in active) for i in range(e + 1)]), ints(sorted_rows + [0] * top_k), ints([len(active)] + active + [0] * e)]
    x, pair = bf16(1, k), bf16(top_k, 2 * k, scale=4)
    pair[0, 0], pair[0, 1], pair[0, k] = 200, -200, 50
    for activation in (None, 0, 1):
        source, stride, choices = x, 0, top_k
        if activation is not None:
            source, stride, choices = torch.zeros(top_k, k, device="cuda", dtype=torch.bfloat16), k, 1
            activate([-(-top_k * (k // 8) // 256)], 256, [activation, pair, ("l", 2 * k), 0, pair[:, k:], ("l", 2 * k), 0, top_k, k,
                                                          source, ("l", k), 0])
        rows = source.float().expand(top_k, k)
        expected = torch.stack([torch.full((n,), 7.0, device="cuda") if j < 0 else
                                rows[i] @ w[j].float().T + (0 if bias is None else bias[j]) for i, j in enumerate(chosen)])
        for warps in (2, 4, 8):
            for dtype in (torch.float32, torch.bfloat16):
                name = f"[{n}, {k}] top {top_k} of {e}, {warps} warps, {activation}, {dtype}"
                wide = dtype == torch.float32
                first = torch.full((top_k, n + 8), 7.0, device="cuda", dtype=dtype)
                second = first.clone()
                few[warps]([-(-n // 16), top_k], warps * 32, [source, ("l", stride), choices, w, bias, n, k, *plan, first, ("l", n + 8), wide])
                end = [w, bias, n, k, experts, second, ("l", n + 8), wide]
                if activation is None:
                    row["row", warps]([-(-n // 16), top_k], warps * 32, [x, ("l", 0), *end])
                else:
                    row["gated", warps]([-(-n // 16), top_k], warps * 32, [pair, pair[:, k:], ("l", 2 * k), activation, *end])
                report(name, (first != second).sum().item(), 0)
                error = ((second[:, :n].float() - expected).abs().max() / expected.abs().max()).item()
                report(name + " against PyTorch", error, 4e-5 if wide else 5e-3)


def main(directory):
    few, row = gpu.Module(f"{directory}/matrix_few.fatbin"), gpu.Module(f"{directory}/experts_row.fatbin")
    activate = gpu.Module(f"{directory}/elements.fatbin").kernel("gated_activation")
    few = {v: few.kernel(f"experts_one_{v}_1") for v in (2, 4, 8)}
    row = {(name, v): row.kernel(f"experts_{name}_{v}") for name in ("row", "gated") for v in (2, 4, 8)}
    for n, k in SHAPES:
        for e, top_k in ((8, 2), (128, 8), (6, 6), (32, 4), (4, 1)):
            for absent in (False, True):
                check(few, row, activate, e, top_k, n, k, absent)
    print("checks failed:", failed)


if __name__ == "__main__":
    torch.manual_seed(1)
    main(sys.argv[1])
    sys.exit(failed > 0)
