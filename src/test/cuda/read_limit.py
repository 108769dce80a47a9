"""Times what reading alone takes, as replays of CUDA graphs like lab.py: a bound for the LoRA kernels.

usage: read_limit.py FATBIN     (read_limit.cu, compiled with nvcc -fatbin)
"""

import sys

import torch

import gpu

BANDWIDTH = 3.12e12
COLD = 140e6
# MB of A with x, of B and of y in the decode cases above 50 MB that are short of 80 %, and a case of 50 MB
CASES = [("50 MB", 11.0, 37.2, 1.8), ("dense r64 N14336 64/21", 11.5, 38.5, 1.8), ("mixtral gate_up 128/1", 9.4, 29.4, 14.7),
         ("dense r64 N4096 64/64", 34.1, 33.6, 0.5), ("dense r64 N14336 32/32", 17.0, 58.7, 0.9),
         ("dense r16 N14336 128/128", 17.8, 58.7, 3.7), ("qwen3 gate_up 32/32", 67.3, 25.1, 0.8),
         ("mixtral down 32/8", 82.0, 23.0, 0.5), ("mixtral down 64/8", 111.5, 31.4, 1.0), ("mixtral down 128/8", 123.0, 34.3, 2.1)]
SIZES = (1, 10, 50, 52, 68, 77, 80, 93, 106, 144, 160)
MEMORY = 2 << 30
SCATTER = 9973  # any pages, as adapters have them


class Lab:
    def __init__(self, path):
        module = gpu.Module(path)
        self.plain = {u: module.kernel(f"read_plain_{u}") for u in (2, 4, 8, 16)}
        self.bulk = module.kernel("read_bulk", 200 * 1024)
        self.memory = torch.empty(MEMORY, dtype=torch.uint8, device="cuda")
        self.memory.random_()
        self.y = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
        self.sink = torch.zeros(4, dtype=torch.int32, device="cuda")

    def address(self, offset):
        return ("l", self.memory.data_ptr() + offset)

    def read(self, variant, offset, size, dependent, y=0, y_offset=0, scatter=1):
        kind, u, threads, per_sm = variant
        if kind == "bulk":
            units = -(-size // u)
            self.bulk((min(units, 132 * per_sm),), 32, [self.address(offset), units, threads, u, self.sink],
                      dependent=dependent, shared=u * threads)
            return
        units = -(-size // (threads * u * 16))
        grid = min(units, 132 * per_sm) if per_sm else units
        self.plain[u]((grid,), threads, [self.memory, ("l", offset // 16), scatter, units, ("l", self.y.data_ptr() + y_offset),
                                         y // 16, self.sink], dependent=dependent)

    def time(self, body, size):
        """Median microseconds of body(offset, index) over disjoint ranges of `size` bytes."""
        span = -(-size // (1 << 20)) + 1 << 20
        count = min(12, MEMORY // span)
        graph = gpu.capture(lambda: [body(i % count * span, i) for i in range(12)])
        return gpu.median_us(graph, 12)


VARIANTS = [("plain", u, t, n) for u, t, n in (
    (2, 512, 4), (2, 512, 0), (4, 256, 4), (4, 512, 3), (4, 256, 0), (4, 512, 0), (8, 128, 8), (8, 256, 3), (8, 256, 4), (8, 512, 2),
    (8, 128, 0), (8, 256, 0), (16, 128, 3), (16, 128, 4), (16, 256, 2), (16, 128, 0))] + [
    ("bulk", b, s, n) for b, s, n in ((8192, 12, 2), (16384, 6, 2), (16384, 12, 1), (4096, 14, 3))]
PAIRS = [(("plain", 8, 256, 3), ("plain", 16, 128, 4)), (("plain", 8, 256, 3), ("plain", 16, 128, 0)),
         (("plain", 8, 256, 0), ("plain", 16, 128, 0)), (("plain", 8, 256, 3), ("plain", 8, 128, 0)),
         (("plain", 8, 256, 2), ("plain", 8, 256, 2)), (("plain", 8, 256, 3), ("plain", 8, 256, 0)),
         (("plain", 4, 256, 0), ("plain", 4, 256, 0)), (("plain", 8, 128, 0), ("plain", 8, 128, 0))]


def main():
    lab = Lab(sys.argv[1])
    print(torch.cuda.get_device_name())
    for mb in SIZES:
        size = int(mb * 1e6)
        limit = size / BANDWIDTH * 1e6
        for dependent in (False, True):
            times = sorted((lab.time(lambda o, i: lab.read(v, o, size, dependent), size), v) for v in VARIANTS)
            kind = "chained " if dependent else "isolated"
            best = ", ".join(f"{' '.join(map(str, v))} {us:.2f}" for us, v in times[:3])
            bulk = min(us for us, v in times if v[0] == "bulk")
            print(f"read {mb:4d} MB {kind} {times[0][0]:7.2f} us {100 * limit / times[0][0]:4.0f} %   best: {best}; bulk {bulk:.2f}; "
                  f"worst {times[-1][0]:.2f}", flush=True)
    for name, first, second, written in CASES:
        a, b, y = (int(m * 1e6) // 16 * 16 for m in (first, second, written))
        limit = (a + b + y) / BANDWIDTH * 1e6
        span = -(-a // (1 << 20)) + 1 << 20
        for dependent in (False, True):
            for writes, scatter in ((0, 1), (y, 1), (y, SCATTER)):
                part = limit * (a + b + writes) / (a + b + y)

                def body(pair):
                    def launch(offset, i):
                        lab.read(pair[0], offset, a, dependent, scatter=scatter)
                        lab.read(pair[1], offset + span, b, True, writes, i * y % ((64 << 20) - y) // 256 * 256, scatter)
                    return lab.time(launch, a + b + (2 << 20))

                times = sorted((body(pair), pair) for pair in PAIRS)
                us, pair = times[0]
                print(f"{name:26s} {'chained ' if dependent else 'isolated'} {'read + y' if writes else 'read    '} {'any pages' if scatter > 1 else '         '} "
                      f"{(a + b + writes) / 1e6:6.1f} MB {us:7.2f} us {100 * part / us:4.0f} %   {pair[0][1:]} {pair[1][1:]}"
                      f" worst {times[-1][0]:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
