"""Segments and items of a batch: what the host will write into device memory before a step."""

import numpy as np

SEGMENT = np.dtype([("weights", "<u8"), ("rowBegin", "<i4"), ("rowCount", "<i4"), ("rank", "<i4"),
                    ("rankOffset", "<i4"), ("yOffset", "<i4"), ("features", "<i4")])
ITEM = np.dtype([("segment", "<i4"), ("block", "<u2"), ("blocks", "<u2"), ("row", "<i4"), ("rows", "<i4")])

# The limits of the kernels' items (their sources say the same).
SHRINK_K, MAX_CLUSTER = 512, 8
SHRINK_ROWS, SHRINK_RANK_BLOCKS = 64, 2
EXPAND_ROWS, EXPAND_WARPS, EXPAND_FRAGMENTS = 64, 4, 16
MANY_ROWS, MANY_RANK_BLOCKS, MANY_FEATURE_BLOCKS, MANY_RANKS = 128, 4, 4, 64

ENOUGH_BLOCKS = 2 * 132  # cut finer below this many blocks of threads

# Segments of this many rows go through the kernels for many rows, if there are that many rows in all.
MANY_FROM, MANY_IN_ALL = 48, 1024


class Group:
    """Rows [begin, begin + count) of the sorted order, and the adapter they go through: the address of packed A (all
    targets stacked) and per target (address of packed B, padded rank)."""

    def __init__(self, begin, count, a, targets):
        self.begin, self.count, self.a, self.targets = begin, count, a, targets


class Launches:
    """Segments of one step, and the items of the kernels for few and for many rows."""

    def __init__(self, segments, few, many):
        self.segments = np.array(segments, SEGMENT)
        self.few, self.many = np.array(few, ITEM), np.array(many, ITEM)


def clusters(hidden):
    """Blocks per cluster and clusters that reduce one row of x: of the hidden size alone, so that results never
    depend on the batch."""
    blocks = -(-hidden // SHRINK_K)
    splits = -(-blocks // MAX_CLUSTER)
    return -(-blocks // splits), splits


def ranges(total, step):
    return [(i, min(step, total - i)) for i in range(0, total, step)]


def even_ranges(total, most, multiple):
    """Ranges of about the same size, multiples of `multiple` but the last."""
    parts = -(-total // most)
    return ranges(total, -(-(-(-total // parts)) // multiple) * multiple)


def halve_rows(rows, least, blocks):
    """The largest share of rows, from `rows` down to `least`, that makes enough blocks."""
    while rows > least and blocks(rows) < ENOUGH_BLOCKS:
        rows //= 2
    return rows


def is_many(groups):
    """Which groups go through the kernels for many rows; both give the same bits."""
    large = sum(g.count for g in groups if g.count >= MANY_FROM)
    return lambda g: g.count >= MANY_FROM and large >= MANY_IN_ALL


def shrink_plan(groups, hidden):
    cluster, splits = clusters(hidden)
    many = is_many(groups)
    segments, shapes = [], []
    for g in groups:
        rank = sum(r for _, r in g.targets)
        if g.count and rank:
            shapes.append((len(segments), g.begin, g.count, rank // 16, many(g)))
            segments.append((g.a, g.begin, g.count, rank, 0, 0, 0))

    def items(chosen, most, multiple, rank_blocks):
        def blocks(rows):
            return cluster * splits * sum(-(-c // rows) * -(-b // rank_blocks) for _, _, c, b, _ in chosen)

        rows = halve_rows(most, multiple, blocks)
        return [(s, block, count, begin + row, row_count)
                for s, begin, total, total_blocks, _ in chosen
                for row, row_count in even_ranges(total, rows, multiple)
                for block, count in ranges(total_blocks, rank_blocks)]

    return Launches(segments, items([s for s in shapes if not s[4]], SHRINK_ROWS, 8, SHRINK_RANK_BLOCKS),
                    items([s for s in shapes if s[4]], MANY_ROWS, 16, MANY_RANK_BLOCKS))


def blocks_held(rank):
    """Feature blocks of one lora_expand item at most."""
    rank_blocks = 4 if rank > 32 else 2 if rank > 16 else 1
    return EXPAND_WARPS * EXPAND_FRAGMENTS // (4 * rank_blocks)


def expand_plan(groups, features, add):
    """features: of each target."""
    many = is_many(groups)
    segments, shapes = [], []
    for g in groups:
        rank_offset = y_offset = 0
        for (b, rank), n in zip(g.targets, features):
            if g.count and (rank or not add):
                shapes.append((len(segments), g.begin, g.count, rank, -(-n // 64), many(g) and rank <= MANY_RANKS))
                segments.append((b, g.begin, g.count, rank, rank_offset, y_offset, n))
            rank_offset += rank
            y_offset += n
    few, large = [s for s in shapes if not s[5]], [s for s in shapes if s[5]]
    share = 1

    def held(rank):
        return max(EXPAND_WARPS, blocks_held(rank) // share)

    def few_blocks(rows):
        return sum(-(-c // rows) * -(-n // held(r)) for _, _, c, r, n, _ in few)

    while share < 4 and few_blocks(EXPAND_ROWS) < ENOUGH_BLOCKS:
        share *= 2
    rows = halve_rows(EXPAND_ROWS, 8, few_blocks)
    few_items = [(s, block, count, begin + row, row_count)
                 for s, begin, total, rank, n, _ in few
                 for block, count in ranges(n, held(rank))
                 for row, row_count in even_ranges(total, rows, 8)]
    rows = halve_rows(MANY_ROWS, 16, lambda rows: sum(
        -(-c // rows) * -(-n // MANY_FEATURE_BLOCKS) for _, _, c, _, n, _ in large))
    many_items = [(s, block, count, begin + row, row_count)
                  for s, begin, total, _, n, _ in large
                  for row, row_count in even_ranges(total, rows, 16)
                  for block, count in ranges(n, MANY_FEATURE_BLOCKS)]
    return Launches(segments, few_items, many_items)
