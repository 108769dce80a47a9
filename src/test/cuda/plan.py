"""Segments and items of a batch: what the host will write into device memory before a step."""

import numpy as np

SEGMENT = np.dtype([("weights", "<u8"), ("rowBegin", "<i4"), ("rowCount", "<i4"), ("rank", "<i4"),
                    ("rankOffset", "<i4"), ("yOffset", "<i4"), ("features", "<i4")])
ITEM = np.dtype([("segment", "<i4"), ("block", "<u2"), ("blocks", "<u2"), ("row", "<i4"), ("rows", "<i4")])

SHRINK_K, SHRINK_ROWS, SHRINK_RANK_BLOCKS = 512, 64, 4
EXPAND_WARPS, EXPAND_FRAGMENTS = 4, 16
MAX_CLUSTER = 8
ENOUGH_BLOCKS = 2 * 132  # cut finer below this many blocks of threads


class Group:
    """Rows [begin, begin + count) of the sorted order, and the adapter they go through: the address of packed A (all
    targets stacked) and per target (address of packed B, padded rank)."""

    def __init__(self, begin, count, a, targets):
        self.begin, self.count, self.a, self.targets = begin, count, a, targets


def clusters(hidden):
    """Blocks per cluster and clusters that reduce one row of x: of the hidden size alone, so that results never
    depend on the batch."""
    blocks = -(-hidden // SHRINK_K)
    splits = -(-blocks // MAX_CLUSTER)
    return -(-blocks // splits), splits


def ranges(total, step):
    return [(i, min(step, total - i)) for i in range(0, total, step)]


def shrink_plan(groups, hidden):
    """Segments and items of lora_shrink."""
    cluster, splits = clusters(hidden)
    segments, shapes = [], []
    for g in groups:
        rank = sum(r for _, r in g.targets)
        if g.count and rank:
            segments.append((g.a, g.begin, g.count, rank, 0, 0, 0))
            shapes.append((g.count, rank // 16))
    rows = SHRINK_ROWS
    while rows > 8 and cluster * splits * sum(
            -(-c // rows) * -(-b // SHRINK_RANK_BLOCKS) for c, b in shapes) < ENOUGH_BLOCKS:
        rows //= 2
    items = [(s, block, blocks, row, count)
             for s, (total, rank_blocks) in enumerate(shapes)
             for row, count in ranges(total, rows)
             for block, blocks in ranges(rank_blocks, SHRINK_RANK_BLOCKS)]
    return np.array(segments, SEGMENT), np.array(items, ITEM)


def blocks_held(rank):
    """Feature blocks of one lora_expand item at most."""
    rank_blocks = 4 if rank > 32 else 2 if rank > 16 else 1
    return EXPAND_WARPS * EXPAND_FRAGMENTS // (4 * rank_blocks)


def expand_plan(groups, features, add):
    """Segments and items of lora_expand; features of each target."""
    segments, shapes = [], []
    for g in groups:
        rank_offset = y_offset = 0
        for (b, rank), n in zip(g.targets, features):
            if g.count and (rank or not add):
                segments.append((b, g.begin, g.count, rank, rank_offset, y_offset, n))
                shapes.append((g.count, rank, -(-n // 64)))
            rank_offset += rank
            y_offset += n
    rows = 64
    share = 1

    def blocks():
        return sum(-(-c // rows) * -(-n // max(EXPAND_WARPS, blocks_held(r) // share)) for c, r, n in shapes)

    while share < 4 and blocks() < ENOUGH_BLOCKS:
        share *= 2
    while rows > 8 and blocks() < ENOUGH_BLOCKS:
        rows //= 2
    items = [(s, block, count, row, row_count)
             for s, (total, rank, n) in enumerate(shapes)
             for block, count in ranges(n, max(EXPAND_WARPS, blocks_held(rank) // share))
             for row, row_count in ranges(total, rows)]
    return np.array(segments, SEGMENT), np.array(items, ITEM)
