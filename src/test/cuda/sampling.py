"""Checks the kernels of sampling.cu against the CPU's sampler, written anew in float64 over a sorted row, and times them.

usage: sampling.py DIRECTORY [ROWS [0]]    where the fatbins are; how many random rows to check; 0: no times
"""

import math
import random
import sys

import numpy as np
import torch

import gpu

PARAMS = np.dtype([("row", "<i4"), ("topK", "<i4"), ("logprobs", "<i4"), ("firstAdjustment", "<i4"),
                   ("endAdjustment", "<i4"), ("greedy", "<i4"), ("factor", "<f4"), ("unused", "<i4"), ("topP", "<f8"),
                   ("minOffset", "<f8"), ("uniform", "<f8"), ("repetition", "<f8"), ("presence", "<f8"),
                   ("frequency", "<f8")])
ADJUSTMENT = np.dtype([("token", "<i4"), ("count", "<i4"), ("bias", "<f8")])
OUTCOME = np.dtype([("token", "<i4"), ("bad", "<i4"), ("most", "<f4"), ("logprob", "<f4"), ("topTokens", "<i4", 20),
                    ("topLogprobs", "<f4", 20)])
THREADS = 512
ONE_BLOCK = 16384    # tokens that are not worth a cluster
BLOCKS = 8
MASK = (1 << 64) - 1
BOUND = 2.0 ** -20   # of the sum of probabilities: closer targets may fall to the other side of a border


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def uniform(seed, step):
    return (mix((mix(seed) + 0x9E3779B97F4A7C15 * (step + 1)) & MASK) >> 11) * 2.0 ** -53


class P:
    """Parameters of a row."""

    def __init__(self, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, repetition=1.0, presence=0.0, frequency=0.0,
                 seed=3, step=0, bias=None, prompt=(), output=(), logprobs=-1):
        self.__dict__.update({k: v for k, v in locals().items() if k != "self"})
        self.bias = bias or {}
        self.penalties = repetition != 1 or presence != 0 or frequency != 0
        self.factor = 0 if temperature == 0 else min(1 / temperature, 1e30)

    def adjustments(self):
        found = {t: (-1, b) for t, b in self.bias.items()}
        if self.penalties:
            counts = {}
            for t in self.output:
                counts[t] = counts.get(t, 0) + 1
            for t in set(self.prompt) | set(self.output):
                found[t] = counts.get(t, 0), self.bias.get(t, 0.0)
        return [(t, n, b) for t, (n, b) in found.items()]

    def __repr__(self):
        return str({k: v for k, v in self.__dict__.items() if k not in ("prompt", "output", "bias")})


def adjusted(logits, p):
    out = logits.clone()
    for token, bias in p.bias.items():
        out[token] = float(np.float32(float(out[token]) + bias))
    if p.penalties:
        counts = {}
        for t in p.output:
            counts[t] = counts.get(t, 0) + 1
        for t in set(p.prompt) | set(p.output):
            v = float(out[t])
            v = v / p.repetition if v > 0 else v * p.repetition
            if counts.get(t):
                v -= p.presence + counts[t] * p.frequency
            out[t] = float(np.float32(v))
    return out


class Reference:
    """One row: what the CPU draws, and what else may be drawn within the bound."""

    def __init__(self, logits, p):
        raw = logits + 0.0
        self.logprobs = None
        if p.logprobs >= 0:
            order = torch.sort(raw, descending=True, stable=True)
            d = raw.double()
            self.log_sum = (d.max() + (d - d.max()).exp().sum().log()).item()
            n = min(p.logprobs, raw.numel())
            self.top = order.indices[:n].tolist()
            self.top_logprobs = (order.values[:n].double() - self.log_sum).tolist()
        v = (adjusted(raw, p) if p.bias or p.penalties else raw) + 0.0  # no negative zeros
        ordered = torch.sort(v, descending=True, stable=True)
        if p.temperature == 0:
            self.token = ordered.indices[0].item()
            self.allowed = {self.token}
            return
        w = ((ordered.values.double() - ordered.values[0].double()) * p.factor).exp()
        k = v.numel() if p.top_k == 0 else min(p.top_k, v.numel())
        cumulative = w[:k].cumsum(0)
        least = k
        if p.min_p > 0:
            below = (w[:k] < p.min_p).nonzero()
            least = below[0].item() if below.numel() else k
        total = cumulative[k - 1].item()
        u = uniform(p.seed, p.step)

        def draw(top_p_shift, target_shift, cut):
            n = cut
            if p.top_p < 1:
                reached = torch.searchsorted(cumulative, p.top_p * total + top_p_shift * total).item()
                n = max(1, min(n, reached + 1))
            kept = cumulative[n - 1].item()
            target = u * kept + target_shift * total
            at = torch.searchsorted(cumulative[:n], max(0.0, target), right=True).item()
            return ordered.indices[min(at, n - 1)].item()

        self.token = draw(0, 0, least)
        self.allowed = {draw(a, b, least) for a in (-BOUND, 0, BOUND) for b in (-BOUND, 0, BOUND)}
        if p.min_p > 0:  # a probability may be within rounding of the bound
            near = ((w[:k] - p.min_p).abs() <= 1e-12 * p.min_p).nonzero().flatten().tolist()
            for cut in near[:1] + [near[-1] + 1] if near else []:
                self.allowed.add(draw(0, 0, max(1, cut)))


class Kernels:
    def __init__(self, directory):
        module = gpu.Module(f"{directory}/sampling.fatbin")
        self.argmax_kernel = module.kernel("argmax")
        self.sample_kernel = module.kernel("sample_rows", 200 * 1024)
        self.workspace_kernel = module.kernel("sample_rows_in_workspace")

    def blocks(self, vocab):
        return 1 if vocab <= ONE_BLOCK else BLOCKS

    def argmax(self, logits, stride, vocab, rows, count, outcomes, dependent=False):
        b = self.blocks(vocab)
        self.argmax_kernel((b, count), THREADS, [logits, ("l", stride), vocab, rows, outcomes], cluster=b,
                           dependent=dependent)

    def sample(self, logits, stride, vocab, params, count, adjustments, outcomes, workspace=None, blocks=None,
               dependent=False):
        b = blocks or self.blocks(vocab)
        part = (-(-vocab // b) + 3) // 4 * 4
        if workspace is None:
            self.sample_kernel.shared = 4 * part
            self.sample_kernel((b, count), THREADS, [logits, ("l", stride), vocab, params, adjustments, outcomes], cluster=b,
                               dependent=dependent)
        else:
            self.workspace_kernel((b, count), THREADS, [logits, ("l", stride), vocab, params, adjustments, workspace,
                                                        outcomes], cluster=b, dependent=dependent)


def pinned(count):
    return torch.zeros(count * OUTCOME.itemsize, dtype=torch.uint8).pin_memory()


def outcomes_of(memory):
    torch.cuda.synchronize()
    return memory.numpy().view(OUTCOME).copy()


def device_params(rows):
    """Of all rows, or of (row, parameters) pairs."""
    params, adjustments = np.zeros(len(rows), PARAMS), []
    for i, (row, p) in enumerate(rows):
        first = len(adjustments)
        adjustments += p.adjustments()
        offset = -math.inf if p.min_p == 0 or p.temperature == 0 else math.log(p.min_p) / p.factor
        params[i] = (row, p.top_k, p.logprobs, first, len(adjustments), p.temperature == 0, p.factor, 0, p.top_p, offset,
                     uniform(p.seed, p.step), p.repetition, p.presence, p.frequency)
    adjustments = np.array(adjustments or [(0, 0, 0)], ADJUSTMENT)
    return torch.from_numpy(params.view(np.uint8)).cuda(), torch.from_numpy(adjustments.view(np.uint8)).cuda()


def matrix(logits):
    """With the padding of the backend's rows, holding what must not matter."""
    rows, vocab = logits.shape
    memory = torch.full((rows, -(-vocab // 8) * 8), 0.0, device="cuda")
    memory[:, :vocab] = logits
    return memory


SHAPES = ("normal", "wide", "narrow", "bf16", "halves", "equal", "two", "mostly minus infinity", "peak", "high", "low", "tiny",
          "zeros", "descending", "one finite")


def logits_of(shape, vocab, generator):
    x = torch.randn(vocab, device="cuda", generator=generator)
    if shape == "wide":
        x *= 8
    elif shape == "narrow":
        x *= 0.01
    elif shape == "bf16":
        x = (x * 3 + 12).bfloat16().float()
    elif shape == "halves":
        x = (x * 4).round() / 2
    elif shape == "equal":
        x = torch.full_like(x, 1.25)
    elif shape == "two":
        x = (x > 1).float()
    elif shape == "mostly minus infinity":
        x[torch.rand(vocab, device="cuda", generator=generator) < 0.95] = -math.inf
        x[vocab // 3] = 1
    elif shape == "peak":
        x[vocab // 2] += 12
    elif shape == "high":
        x += 1000
    elif shape == "low":
        x = x * 3 - 1000
    elif shape == "tiny":
        x *= 1e-38
    elif shape == "zeros":
        x = torch.where(x > 0, 0.0, -0.0)
    elif shape == "descending":
        x = -torch.arange(vocab, device="cuda").float() / 100
    elif shape == "one finite":
        x = torch.full_like(x, -math.inf)
        x[vocab - 1] = -3
    return x


def params_of(rng, vocab):
    some = lambda n: [rng.randrange(vocab) for _ in range(n)]  # noqa: E731
    p = dict(temperature=rng.choice((0, 1e-9, 0.05, 0.3, 0.7, 1.0, 1.0, 1.3, 2.0)), seed=rng.getrandbits(64),
             step=rng.randrange(5000), logprobs=rng.choice((-1, -1, -1, 0, 1, 5, 20)))
    if rng.random() < 0.5:
        p["top_p"] = rng.choice((1e-9, 0.1, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999999))
    if rng.random() < 0.5:
        p["top_k"] = rng.choice((1, 2, 5, 20, 50, 200, 1000, vocab // 2 + 1, vocab, 2 * vocab))
    if rng.random() < 0.3:
        p["min_p"] = rng.choice((1e-6, 0.01, 0.05, 0.3, 1.0))
    if rng.random() < 0.3:
        p["bias"] = {t: rng.uniform(-100, 100) if rng.random() < 0.3 else rng.uniform(-3, 3) for t in some(10)}
    if rng.random() < 0.3:
        p.update(repetition=rng.choice((1.0, 1.1, 1.5, 0.8)), presence=rng.choice((0.0, 0.5, -0.3)),
                 frequency=rng.choice((0.0, 0.2, -0.1)), prompt=some(30), output=some(40))
    return P(**p)


def check_argmax(k):
    failed = 0
    generator = torch.Generator(device="cuda").manual_seed(5)
    for vocab in (1, 3, 4, 5, 7, 100, 2047, 2048, 2049, 16384, 16385, 32000, 50257, 128256, 151936, 201088, 262144):
        rows = torch.stack([logits_of(s, vocab, generator) for s in SHAPES])
        ties = rows[0].clone()
        ties[[vocab // 7, vocab // 2, vocab - 1]] = 50.0
        rows = torch.cat([rows, ties[None], rows[:5]])
        bad = {}
        for i, (value, at) in enumerate(((math.nan, 0), (math.nan, vocab - 1), (math.inf, vocab // 2), (-math.inf, None))):
            row = len(rows) - 1 - i
            rows[row, slice(None) if at is None else at] = value
            bad[row] = value
        m, out = matrix(rows), pinned(len(rows))
        if vocab % 8:
            m[:, vocab:] = 1e9  # is never looked at
        k.argmax(m, m.stride(0), vocab, None, len(rows), out)
        outcomes = outcomes_of(out)
        for i, o in enumerate(outcomes):
            if i in bad:
                good = o["bad"] == 1 and (o["most"] == bad[i] or math.isnan(bad[i]) and math.isnan(o["most"]))
            else:
                expected = torch.sort(rows[i], descending=True, stable=True)
                good = o["bad"] == 0 and o["token"] == expected.indices[0].item() and o["most"] == expected.values[0].item()
            if not good:
                failed += 1
                print(f"FAILED argmax vocab {vocab} row {i}: {o['token']} {o['bad']} {o['most']}")
        chosen = [5, 0, 3]
        out = pinned(len(rows))
        k.argmax(m, m.stride(0), vocab, torch.tensor(chosen, dtype=torch.int32, device="cuda"), 3, out)
        some = outcomes_of(out)
        if any(some[i]["token"] != (outcomes[i]["token"] if i in chosen else 0) for i in range(len(rows))):
            failed += 1
            print(f"FAILED argmax of chosen rows, vocab {vocab}")
        # The general kernel finds the same errors and the same tokens.
        params, adjustments = device_params([(i, P(temperature=0 if i % 2 else 1e-9, top_k=1)) for i in range(len(rows))])
        out = pinned(len(rows))
        k.sample(m, m.stride(0), vocab, params, len(rows), adjustments, out)
        for i, (a, b) in enumerate(zip(outcomes, outcomes_of(out))):
            if a["bad"] != b["bad"] or (not a["bad"] and a["token"] != b["token"]):
                failed += 1
                print(f"FAILED sample_rows as argmax, vocab {vocab} row {i}: {b['token']} {b['bad']} for {a['token']} {a['bad']}")
    print("argmax:", "passed" if not failed else f"{failed} FAILED")


def check_samples(k, total):
    rng = random.Random(11)
    generator = torch.Generator(device="cuda").manual_seed(6)
    checked = failed = different = differs_alone = 0
    worst_logprob = 0.0
    vocabs = (1, 2, 7, 100, 511, 2048, 8193, 16384, 16385, 32000, 151936, 201088)
    while checked < total:
        for vocab in vocabs:
            if checked >= total:
                break
            count = 45 if vocab < 100000 else 30
            shapes = [SHAPES[i % len(SHAPES)] for i in range(count)]
            logits = torch.stack([logits_of(s, vocab, generator) for s in shapes])
            ps = [params_of(rng, vocab) for _ in range(count)]
            order = list(range(count))
            rng.shuffle(order)
            m = matrix(logits)
            if vocab % 8:
                m[:, vocab:] = 1e9
            params, adjustments = device_params([(i, ps[i]) for i in order])
            out = pinned(count)
            k.sample(m, m.stride(0), vocab, params, count, adjustments, out)
            outcomes = outcomes_of(out)
            assert torch.equal(m[:, :vocab], logits), "logits were changed"
            workspace = torch.empty(count * (-(-vocab // 4) * 4 + 32), device="cuda")
            for blocks in (1, 3):
                alone = pinned(count)
                k.sample(m, m.stride(0), vocab, params, count, adjustments, alone, workspace=workspace, blocks=blocks)
                if outcomes_of(alone).tobytes() != outcomes.tobytes():
                    differs_alone += 1
                    print(f"FAILED: other results from {blocks} blocks, vocab {vocab}")
            for i, p in enumerate(ps):
                o, checked = outcomes[i], checked + 1
                r = Reference(logits[i], p)
                problems = []
                if o["bad"]:
                    problems.append(f"bad {o['most']}")
                elif o["token"] not in r.allowed:
                    problems.append(f"token {o['token']} for {r.token}, also allowed {r.allowed}")
                elif o["token"] != r.token:
                    different += 1
                if p.logprobs >= 0 and not problems:
                    own = logits[i][int(o["token"])].item() - r.log_sum
                    pairs = [(float(o["logprob"]), own)]
                    pairs += list(zip(o["topLogprobs"].tolist(), r.top_logprobs))
                    for actual, expected in pairs:
                        error = 0 if actual == expected else abs(actual - expected)
                        scale = 2e-6 + 2e-7 * abs(expected)
                        if math.isfinite(expected):
                            worst_logprob = max(worst_logprob, error)
                        if not error <= scale:
                            problems.append(f"logprob {actual} for {expected}")
                    if o["topTokens"][: len(r.top)].tolist() != r.top:
                        problems.append(f"top {o['topTokens'][:len(r.top)]} for {r.top}")
                if problems:
                    failed += 1
                    if failed <= 30:
                        print(f"FAILED vocab {vocab} {shapes[i]} {p}: {problems[:3]}")
    print(f"sample_rows: {checked} rows, {failed} FAILED, {different} within {BOUND:.1e} of a border drawn otherwise, "
          f"{differs_alone} batches differ with other numbers of blocks, largest error of a logprob {worst_logprob:.1e}")


def check_frequencies(k):
    """Draws follow the distribution: chi-squared over many steps of one row."""
    vocab, n = 50, 20000
    logits = torch.randn(vocab, device="cuda", generator=torch.Generator(device="cuda").manual_seed(9))
    m = matrix(logits.repeat(n, 1))
    params, adjustments = device_params([(i, P(seed=77, step=i)) for i in range(n)])
    out = pinned(n)
    k.sample(m, m.stride(0), vocab, params, n, adjustments, out)
    counts = np.bincount(outcomes_of(out)["token"], minlength=vocab)
    expected = torch.softmax(logits.double(), 0).cpu().numpy() * n
    chi = ((counts - expected) ** 2 / expected).sum()
    print(f"frequencies: chi-squared {chi:.1f} with {vocab - 1} degrees of freedom", "" if chi < 90 else "FAILED")


BANDWIDTH = 3.12e12


def time_all(k):
    print("times, logits colder than the L2 (5 matrices in turn for 64 rows); a limit is one read of the logits")
    for rows, vocab in ((1, 151936), (8, 151936), (64, 151936), (64, 32000), (64, 201088), (256, 151936)):
        size = 4 * rows * vocab
        n = max(2, min(100, int(180e6 / size) + 1))
        logits = [matrix(torch.randn(rows, vocab, device="cuda") * 2.5 + 8) for _ in range(n)]
        for m in logits:  # a best token, forty good ones, and the many others
            m[:, 17] = 24
            m[:, 1000:1040] = 21
        out = pinned(rows)

        def report(name, body):
            body(logits[0])
            time = gpu.median_us(gpu.capture(lambda: [body(m) for m in logits]), n)
            print(f"  {name:34s} {rows:4d} x {vocab}: {time:8.2f} us   limit {size / BANDWIDTH * 1e6:6.2f} us", flush=True)

        report("argmax", lambda m: k.argmax(m, m.stride(0), vocab, None, rows, out, dependent=True))
        for name, p in (("temperature", P(temperature=0.8)), ("top-p 0.95", P(temperature=0.8, top_p=0.95)),
                        ("top-k 50", P(temperature=0.8, top_k=50)),
                        ("top-k 50, top-p 0.95", P(temperature=0.8, top_k=50, top_p=0.95)),
                        ("top-k 5000, top-p 0.95, min-p", P(temperature=0.8, top_k=5000, top_p=0.95, min_p=0.01)),
                        ("top-p 0.99 at temperature 2", P(temperature=2, top_p=0.99)),
                        ("greedy, 5 logprobs", P(temperature=0, logprobs=5)),
                        ("top-p 0.95, 20 logprobs", P(temperature=0.8, top_p=0.95, logprobs=20))):
            ps = [P(**{**{a: getattr(p, a) for a in ("temperature", "top_p", "top_k", "min_p", "logprobs")}, "step": i})
                  for i in range(rows)]
            params, adjustments = device_params(list(enumerate(ps)))
            report(name, lambda m: k.sample(m, m.stride(0), vocab, params, rows, adjustments, out, dependent=True))


def main():
    print(torch.cuda.get_device_name())
    sys.stdout.reconfigure(line_buffering=True)
    k = Kernels(sys.argv[1])
    check_argmax(k)
    check_samples(k, int(sys.argv[2]) if len(sys.argv) > 2 else 2000)
    check_frequencies(k)
    if len(sys.argv) <= 3:
        time_all(k)


if __name__ == "__main__":
    main()
