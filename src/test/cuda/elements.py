"""Checks and times the kernels of elements.cu and rows.cu against float32 arithmetic of PyTorch.

usage: elements.py DIRECTORY    where the fatbins are
"""

import sys

import torch

import gpu

SENTINEL = 7.0  # beyond a row's padding: belongs to somebody else
WIDTHS = (1, 7, 8, 9, 64, 77, 576, 768, 2048, 2880, 4096, 5120, 14336, 32768)
NORM_THREADS = 512


def padded(cols):
    return -(-cols // 8) * 8


class Matrix:
    """Rows on the device as the backend lays them out, in a wider matrix whose other columns must not change."""

    def __init__(self, values, wide, extra=8):
        self.rows, self.cols = values.shape
        self.wide = wide
        self.stride = padded(self.cols) + extra
        dtype = torch.float32 if wide else torch.bfloat16
        self.memory = torch.full((self.rows, self.stride), SENTINEL, device="cuda", dtype=dtype)
        self.memory[:, : padded(self.cols)] = 0
        self.memory[:, : self.cols] = values

    @staticmethod
    def random(rows, cols, wide, scale=1.0, extra=8):
        return Matrix(torch.randn(rows, cols, device="cuda") * scale, wide, extra)

    def values(self):
        return self.memory[:, : self.cols].float()

    def arguments(self):
        return [self.memory, ("l", self.stride), int(self.wide)]

    def intact(self):
        padding = self.memory[:, self.cols : padded(self.cols)]
        other = self.memory[:, padded(self.cols) :]
        return bool((padding == 0).all()) and bool((other == SENTINEL).all())


class Checks:
    def __init__(self):
        self.failed = 0
        self.worst = {}

    def close(self, name, case, matrix, expected, exact=False):
        actual = matrix.values() if isinstance(matrix, Matrix) else matrix.float()
        wide = matrix.wide if isinstance(matrix, Matrix) else matrix.dtype == torch.float32
        relative = 2e-6 if wide else 2.0 ** -8
        error = (actual - expected).abs()
        limit = 0 if exact else relative * expected.abs() + 1e-6 * expected.abs().nan_to_num().max()
        bad = ~((error <= limit) | (actual.isnan() & expected.isnan()) | (actual == expected))
        whole = not isinstance(matrix, Matrix) or matrix.intact()
        share = (error / (expected.abs() + 1e-6)).nan_to_num(0, 0, 0).max().item() if error.numel() else 0
        self.worst[name] = max(self.worst.get(name, 0), share)
        if bad.any() or not whole:
            self.failed += 1
            at = bad.nonzero()[0].tolist() if bad.any() else None
            detail = f"{int(bad.sum())} off, first {at}: {actual[tuple(at)].item()} for {expected[tuple(at)].item()}" if at else ""
            if self.failed <= 60:
                print(f"FAILED {name} {case} intact={whole} {detail}")

    def done(self):
        for name, error in self.worst.items():
            print(f"  {name:18s} largest relative error {error:.2e}")
        print("checks:", "all passed" if not self.failed else f"{self.failed} FAILED")


def grid(rows, cols, threads=256):
    return (-(-rows * (padded(cols) // 8) // threads),)


class Kernels:
    def __init__(self, directory):
        elements, rows = gpu.Module(f"{directory}/elements.fatbin"), gpu.Module(f"{directory}/rows.fatbin")
        for name in ("embed", "add", "clamp", "zero", "gated_activation", "rms_norm_heads", "norm_1", "norm_2", "norm_4",
                     "norm_8"):
            setattr(self, name, elements.kernel(name))
        for name in ("gather", "scatter_add", "pack_rows", "unpack_rows", "add_rows", "gather_routing", "read_row"):
            setattr(self, name, rows.kernel(name))

    def norm(self, x, y, weight, eps, layer, out, dependent=False, most=NORM_THREADS):
        vectors = padded(x.cols) // 8
        threads = min(most, -(-vectors // 32) * 32)
        count = 1
        while count * threads < vectors:
            count *= 2
        residual = [None, ("l", 0), 0] if y is None else y.arguments()
        getattr(self, f"norm_{count}")((x.rows,), threads, [*x.arguments(), *residual, weight, x.cols, float(eps),
                                                            int(layer), *out.arguments()], dependent=dependent)

    def norm_heads(self, x, weight, size, heads, eps, dependent=False):
        lanes = 32
        while size % 8 == 0 and lanes > 1 and lanes // 2 >= size // 8:
            lanes //= 2
        self.rms_norm_heads((-(-x.rows * heads * lanes // 128),), 128, [*x.arguments(), weight, size, heads, x.rows, lanes,
                                                                       float(eps)], dependent=dependent)


def norm_reference(values, weight, eps, layer):
    v = values.double()
    if layer:
        v = v - v.mean(1, keepdim=True)
    return (v / (v.square().mean(1, keepdim=True) + eps).sqrt() * weight.double()).float()


def vector(values):
    v = torch.zeros(padded(values.numel()), device="cuda")
    v[: values.numel()] = values
    return v


def check_elements(k, c):
    both = (False, True)
    for cols in WIDTHS:
        for rows in (1, 5) if cols > 5000 else (1, 3, 33):
            weight = torch.randn(cols, device="cuda")
            padded_weight = vector(weight)
            for wide in both:
                x = Matrix.random(rows, cols, wide, 100.0)
                before = x.values()
                k.clamp(grid(rows, cols), 256, [*x.arguments(), rows, cols, 50.0])
                c.close("clamp", (rows, cols, wide), x, before.clamp(-50, 50), exact=True)
                k.zero(grid(rows, cols), 256, [*x.arguments(), rows, cols])
                c.close("zero", (rows, cols, wide), x, before * 0, exact=True)
                for other in both:
                    x, y = Matrix.random(rows, cols, wide), Matrix.random(rows, cols, other)
                    expected = x.values() + y.values()
                    k.add(grid(rows, cols), 256, [*x.arguments(), rows, cols, *y.arguments()])
                    c.close("add", (rows, cols, wide, other), y, expected)
                    for layer in both:
                        x = Matrix(torch.randn(rows, cols, device="cuda") * 3 + (20 if layer else 0), wide)
                        out = Matrix.random(rows, cols, other)
                        expected = norm_reference(x.values(), weight, 1e-5, layer)
                        k.norm(x, None, padded_weight, 1e-5, layer, out)
                        # A row of one column has no variance: all that is left is rounding.
                        if not (layer and cols == 1):
                            c.close("layer_norm" if layer else "rms_norm", (rows, cols, wide, other), out, expected)
                        if wide == other:
                            k.norm(x, None, padded_weight, 1e-5, layer, x)
                            c.close("norm in place", (rows, cols, wide, layer), x, out.values(), exact=True)
                        for out_wide in both:
                            x, y = Matrix.random(rows, cols, wide), Matrix.random(rows, cols, other, 3.0)
                            out, apart = Matrix.random(rows, cols, out_wide), Matrix(y.values(), other)
                            total = x.values() + y.values()
                            k.norm(x, y, padded_weight, 1e-5, layer, out)
                            case = (rows, cols, wide, other, out_wide, layer)
                            c.close("add_norm sum", case, y, total)
                            k.add(grid(rows, cols), 256, [*x.arguments(), rows, cols, *apart.arguments()])
                            c.close("add_norm like add", case, y, apart.values(), exact=True)
                            k.norm(apart, None, padded_weight, 1e-5, layer, apart_out := Matrix.random(rows, cols, out_wide))
                            c.close("add_norm like norm", case, out, apart_out.values(), exact=True)
    special = torch.tensor([[float("nan"), float("inf"), -float("inf"), -0.0, 3.0]], device="cuda")
    for wide in both:
        x = Matrix(special, wide)
        k.clamp(grid(1, 5), 256, [*x.arguments(), 1, 5, 2.0])
        c.close("clamp", "special", x, special.clamp(-2, 2), exact=True)
        x = Matrix(torch.tensor([[float("inf"), 1.0, 2.0]], device="cuda"), wide)
        k.norm(x, None, vector(torch.ones(3, device="cuda")), 1e-5, False, x)
        c.close("rms_norm", "infinite", x, torch.tensor([[float("nan"), 0.0, 0.0]], device="cuda"), exact=True)


def check_activations(k, c):
    for cols in WIDTHS:
        for rows in (1, 3, 40):
            for wide in (False, True):
                for activation in (0, 1):
                    for alias in ("none", "gate", "up"):
                        gate, up = Matrix.random(rows, cols, wide, 6.0), Matrix.random(rows, cols, wide, 6.0, extra=24)
                        g, u = gate.values().double(), up.values().double()
                        if activation:
                            g, u = g.clamp(max=7), u.clamp(-7, 7)
                            expected = g * torch.sigmoid(1.702 * g) * (u + 1)
                        else:
                            expected = g * torch.sigmoid(g) * u
                        out = {"none": Matrix.random(rows, cols, wide), "gate": gate, "up": up}[alias]
                        k.gated_activation(grid(rows, cols), 256, [activation, *gate.arguments(), *up.arguments(), rows,
                                                                    cols, *out.arguments()])
                        c.close("gated_activation", (rows, cols, wide, activation, alias), out, expected.float())
    for size in (2, 6, 8, 40, 64, 80, 96, 128, 256, 1024, 1032):
        for heads in (1, 3, 32):
            for rows in (1, 5):
                for wide in (False, True):
                    x = Matrix.random(rows, heads * size, wide, 4.0)
                    weight = torch.randn(size, device="cuda")
                    v = x.values().double().view(rows, heads, size)
                    expected = v / (v.square().mean(2, keepdim=True) + 1e-6).sqrt() * weight.double()
                    k.norm_heads(x, vector(weight), size, heads, 1e-6)
                    c.close("rms_norm_heads", (size, heads, rows, wide), x, expected.view(rows, -1).float())


def ints(values):
    return torch.tensor(values, device="cuda", dtype=torch.int32)


def check_rows(k, c):
    generator = torch.Generator().manual_seed(3)
    for cols in (1, 3, 7, 8, 15, 16, 17, 33, 64, 577, 2048, 4096, 70001):
        table = Matrix.random(11, cols, False, extra=0)
        tokens = [3, 0, 10, 10, -1, 11]
        for wide in (False, True):
            out = Matrix.random(6, cols, wide)
            k.embed(grid(6, cols), 256, [table.memory, ("l", table.stride), 11, ints(tokens), 6, cols, *out.arguments()])
            expected = table.values()[[3, 0, 10, 10, 0, 0]]
            expected[4:] = 0
            c.close("embed", (cols, wide), out, expected, exact=True)
            for other in (False, True):
                x, rows = Matrix.random(9, cols, wide), [8, -1, 0, 0, 5]
                out = Matrix.random(5, cols, other)
                expected = x.values()[[8, 0, 0, 0, 5]].to(out.memory.dtype).float()
                expected[1] = out.values()[1]
                k.gather(grid(5, cols), 256, [*x.arguments(), ints(rows), 5, cols, *out.arguments()])
                c.close("gather", (cols, wide, other), out, expected, exact=True)
                for terms in (1, 2, 8):
                    rows = [6, 2, -1, 9]
                    x, y = Matrix.random(4 * terms, cols, wide), Matrix.random(10, cols, other)
                    expected, v = y.values(), x.values().view(4, terms, cols)
                    for i, row in enumerate(rows):
                        if row >= 0:
                            total = v[i, 0]
                            for t in range(1, terms):
                                total = total + v[i, t]
                            expected[row] += total
                    expected = expected.to(y.memory.dtype).float()
                    k.scatter_add(grid(4, cols), 256, [*x.arguments(), terms, ints(rows), 4, cols, *y.arguments()])
                    c.close("scatter_add", (cols, wide, other, terms), y, expected, exact=True)
            x, rows = Matrix.random(5, cols, wide), [4, 0, 2]
            packed = torch.zeros(3 * cols + 8, device="cuda", dtype=torch.bfloat16)
            k.pack_rows(grid(3, cols), 256, [*x.arguments(), ints(rows), 3, cols, packed])
            expected = x.values()[rows].bfloat16()
            c.close("pack_rows", (cols, wide), packed[: 3 * cols].view(3, cols), expected.float(), exact=True)
            assert not packed[3 * cols :].any(), "pack_rows wrote too far"
            out = Matrix.random(3, cols, wide)
            k.unpack_rows(grid(3, cols), 256, [packed, 3, cols, *out.arguments()])
            c.close("unpack_rows", (cols, wide), out, expected.float(), exact=True)
            y = Matrix.random(6, cols, wide)
            total = y.values()
            total[[5, 1]] += expected.float()[[0, 2]]
            k.add_rows(grid(3, cols), 256, [packed, ints([5, -1, 1]), 3, cols, *y.arguments()])
            c.close("add_rows", (cols, wide), y, total.to(y.memory.dtype).float(), exact=True)
            host = torch.zeros(padded(cols), dtype=torch.float32).pin_memory()
            k.read_row((-(-padded(cols) // 8 // 256),), 256, [*x.arguments(), 3, cols, host])
            torch.cuda.synchronize()
            c.close("read_row", (cols, wide), host[None, :cols], x.values()[3:4].cpu(), exact=True)
    for top in (1, 2, 8):
        experts = torch.randint(0, 128, (20, top), generator=generator, dtype=torch.int32).cuda()
        weights = torch.rand(20, top, device="cuda")
        for rows in (None, [4, -1, 19, 4]):
            count = 20 if rows is None else 4
            out_experts, out_weights = torch.zeros(count, top, device="cuda", dtype=torch.int32), torch.zeros(count, top, device="cuda")
            k.gather_routing((1,), 256, [experts, weights, None if rows is None else ints(rows), count, top, out_experts, out_weights])
            chosen = list(range(20)) if rows is None else [max(0, r) for r in rows]
            expected, expected_weights = experts[chosen].clone(), weights[chosen].clone()
            if rows is not None:
                expected[1], expected_weights[1] = -1, 0
            c.close("gather_routing", (top, rows), out_experts.float(), expected.float(), exact=True)
            c.close("gather_routing", (top, rows), out_weights, expected_weights, exact=True)


BANDWIDTH = 3.12e12


def report(name, body, operations, size):
    body()
    torch.cuda.synchronize()
    time = gpu.median_us(gpu.capture(body), operations)
    print(f"  {name:44s} {time:8.2f} us   limit {size / BANDWIDTH * 1e6:8.2f} us ({size / BANDWIDTH * 1e8 / time:3.0f} %)")


def copies(size):
    """How many disjoint inputs are colder than the L2 together."""
    return max(2, min(200, int(140e6 / size) + 1))


def time_all(k):
    print("times, inputs colder than the L2; in a chain of dependent launches, as in a step:")
    for rows in (1, 32, 64, 8192):
        for cols in (2048, 2880, 4096):
            size = rows * cols * (2 + 4 + 4 + 2)
            n = copies(size)
            if n * size > 4e9:
                n = 2
            weight = torch.ones(padded(cols), device="cuda")
            sets = [(Matrix.random(rows, cols, False, extra=0), Matrix.random(rows, cols, True, extra=0),
                     Matrix.random(rows, cols, False, extra=0)) for _ in range(n)]

            def add_norm():
                for x, y, out in sets:
                    k.norm(x, y, weight, 1e-5, False, out, dependent=True)

            report(f"add_norm rms {rows} x {cols}", add_norm, n, size)
            if cols == 4096:
                def layer():
                    for x, y, out in sets:
                        k.norm(x, y, weight, 1e-5, True, out, dependent=True)

                report(f"add_norm layer {rows} x {cols}", layer, n, size)

                def norm():
                    for x, y, out in sets:
                        k.norm(y, None, weight, 1e-5, False, out, dependent=True)

                report(f"norm {rows} x {cols}", norm, n, rows * cols * 6)

                x, y, out = sets[0]

                def warm():
                    for _ in range(50):
                        k.norm(x, y, weight, 1e-5, False, out, dependent=True)

                report(f"add_norm {rows} x {cols}, same memory", warm, 50, 0)
            del sets
    for rows, cols in ((1, 14336), (32, 14336), (32, 768), (8192, 14336), (65536, 768)):
        size = rows * cols * 6
        n = copies(size)
        sets = [(Matrix.random(rows, cols, False, extra=cols), Matrix.random(rows, cols, False, extra=0)) for _ in range(n)]

        def activation():
            for both, out in sets:
                up = [both.memory[:, cols:], ("l", both.stride), 0]
                k.gated_activation(grid(rows, cols), 256, [0, *both.arguments(), *up, rows, cols, *out.arguments()],
                                   dependent=True)

        report(f"gated_activation {rows} x {cols}", activation, n, size)
        del sets
    for rows in (32, 8192):
        table = torch.zeros(151936, 4096, device="cuda", dtype=torch.bfloat16)
        tokens = [torch.randint(0, 151936, (rows,), dtype=torch.int32).cuda() for _ in range(20)]
        out = Matrix.random(rows, 4096, True, extra=0)

        def embed():
            for t in tokens:
                k.embed(grid(rows, 4096), 256, [table, ("l", 4096), 151936, t, rows, 4096, *out.arguments()], dependent=True)

        report(f"embed {rows} x 4096 to float32", embed, 20, rows * 4096 * 6)
        x, y = Matrix.random(rows, 4096, False, extra=0), Matrix.random(rows, 4096, True, extra=0)
        order = torch.randperm(rows).int().cuda()

        def scatter():
            for _ in range(20):
                k.scatter_add(grid(rows, 4096), 256, [*x.arguments(), 1, order, rows, 4096, *y.arguments()], dependent=True)

        report(f"scatter_add {rows} x 4096", scatter, 20, rows * 4096 * 10)
        del table
    heads = [Matrix.random(8192, 32 * 128, False, extra=0) for _ in range(3)]
    weight = torch.ones(128, device="cuda")

    def head_norms():
        for x in heads:
            k.norm_heads(x, weight, 128, 32, 1e-6, dependent=True)

    report("rms_norm_heads 8192 x 32 x 128", head_norms, 3, 8192 * 4096 * 4)


def main():
    torch.manual_seed(1)
    print(torch.cuda.get_device_name())
    k, c = Kernels(sys.argv[1]), Checks()
    check_elements(k, c)
    check_activations(k, c)
    check_rows(k, c)
    torch.cuda.synchronize()
    c.done()
    time_all(k)


if __name__ == "__main__":
    main()
