"""Adapter memory as a server has it: pieces in pages that are used in random order, and tables that say where they are."""

import numpy as np
import torch

from layout import CHUNK, padded

PAGE = 64 * 1024


class Pages:
    """Pages of random values, unless written; and tables."""

    def __init__(self, count, table_words, seed=1):
        self.values = torch.empty(count * PAGE // 2, dtype=torch.bfloat16, device="cuda")
        for i in range(0, self.values.numel(), 1 << 28):
            self.values[i : i + (1 << 28)].normal_(0, 0.05)
        self.order = np.random.default_rng(seed).permutation(count).astype(np.int64)
        self.tables = torch.zeros(table_words, dtype=torch.int64, device="cuda")
        self.host = np.zeros(table_words, np.int64)
        self.clear()

    def clear(self):
        self.page, self.offset, self.words = 0, 0, 0

    def take(self, size, count):
        """Offsets, in bytes, of pieces that do not cross pages."""
        i, here = np.arange(count, dtype=np.int64), max(0, (PAGE - self.offset) // size)
        rest, per_page = np.maximum(i - here, 0), PAGE // size
        page = np.where(i < here, self.page, self.page + 1 + rest // per_page)
        offset = np.where(i < here, self.offset + i * size, rest % per_page * size)
        if count:
            self.page, self.offset = int(page[-1]), int(offset[-1]) + size
            if self.page >= len(self.order):
                raise MemoryError("too few pages")
        return self.order[page] * PAGE + offset

    def index(self, offsets, size):
        return torch.as_tensor(offsets, device="cuda").reshape(-1, 1) // 2 + torch.arange(size // 2, device="cuda")

    def write(self, offsets, pieces):
        """A piece per row."""
        self.values[self.index(offsets, 2 * pieces.shape[1])] = pieces

    def read(self, offsets, size):
        """A piece per row."""
        return self.values[self.index(offsets, size)]

    def table(self, words):
        """Address of a new table; `flush` brings it to the device."""
        if len(words) % 2:
            words = np.append(words, 0)
        at = self.words
        self.words += len(words)
        self.host[at : self.words] = words
        return self.tables.data_ptr() + 8 * at

    def flush(self):
        self.tables[: self.words] = torch.as_tensor(self.host[: self.words]).cuda()


def chunk_sizes(hidden):
    return [32 * padded(min(CHUNK, hidden - k), 32) for k in range(0, hidden, CHUNK)]


class Site:
    """One adapter's matrices at a site: A of all targets stacked, B of each. ranks are padded; 0: no such target."""

    def __init__(self, pages, hidden, features, ranks, scales=None):
        self.hidden, self.features, self.ranks = hidden, features, ranks
        self.scales = scales or [1.0] * len(ranks)
        blocks, sizes = sum(ranks) // 16, chunk_sizes(hidden)
        if len(set(sizes)) == 1:
            self.a = pages.take(sizes[0], blocks * len(sizes)).reshape(blocks, len(sizes))
        else:
            self.a = np.stack([np.concatenate([pages.take(s, 1) for s in sizes]) for _ in range(blocks)]) if blocks else None
        self.b = [pages.take(r * 128, -(-n // 64)) if r else None for r, n in zip(ranks, features)]
        base = pages.values.data_ptr()
        self.a_name = pages.table((self.a + base).reshape(-1)) | blocks << 48 if blocks else 0
        self.b_names, block = [], 0
        for r, b, s in zip(ranks, self.b, self.scales):
            head = np.array([np.float32(s).view(np.int32), 0], np.int64)
            self.b_names.append(pages.table(np.append(head, b + base)) | r // 16 << 48 | block << 56 if r else 0)
            block += r // 16

    def write(self, pages, a, bs):
        """Packed matrices (layout.py)."""
        for i, size in enumerate(chunk_sizes(self.hidden) if a is not None else []):
            pages.write(self.a[:, i], a[:, i * CHUNK * 16 : i * CHUNK * 16 + size // 2])
        for offsets, b in zip(self.b, bs):
            if b is not None:
                pages.write(offsets, b)

    def read(self, pages):
        """Packed A, and packed B of each target."""
        a = None
        if self.a is not None:
            parts = [pages.read(self.a[:, i], s) for i, s in enumerate(chunk_sizes(self.hidden))]
            a = torch.cat(parts, 1)
        return a, [pages.read(b, r * 128) if r else None for b, r in zip(self.b, self.ranks)]
