"""The items of a batch: what the host will write into device memory before a step."""

import numpy as np

ITEM = np.dtype([("weights", "<u8"), ("row", "<i4"), ("rows", "<u2"), ("blocks", "<u2"), ("rankBlocks", "<u2"),
                 ("vBlock", "<u2"), ("yOffset", "<i4"), ("features", "<i4")], align=True)

# The limits of the kernels' items (their sources say the same).
SHRINK_K, MAX_CLUSTER = 512, 8
SHRINK_ROWS, SHRINK_RANK_BLOCKS = 64, 2
EXPAND_ROWS, EXPAND_WARPS, EXPAND_FRAGMENTS = 64, 4, 16
MANY_ROWS, MANY_RANK_BLOCKS, MANY_FEATURE_BLOCKS, MANY_RANKS = 128, 4, 4, 64

ENOUGH_BLOCKS = 2 * 132  # cut finer below this many blocks of threads

# Clusters of 8 blocks of lora_shrink_rows that an H100 runs at once, two blocks per multiprocessor.
CLUSTERS_AT_ONCE = 30

# Adapters of this many rows go through the kernels for many rows: shrink only if there are that many in all.
MANY_SHRINK_FROM, MANY_SHRINK_IN_ALL = 48, 1024
MANY_EXPAND_FROM = 24        # and the mean at least as large,
MANY_EXPAND_BLOCKS = 100     # and so much to do, in shares of 64 rows and 256 features
FEW_ROWS_BLOCKS = 8 * 132    # few adapters with many rows are cut finer below this many blocks of lora_expand


class Group:
    """Rows [begin, begin + count) of the sorted order, and the adapter they go through: the address of packed A (all
    targets stacked) and per target (address of packed B, padded rank)."""

    def __init__(self, begin, count, a, targets):
        self.begin, self.count, self.a, self.targets = begin, count, a, targets


class Launches:
    """Items of the kernels for few and for many rows."""

    def __init__(self, few, many):
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


def mean(counts):
    return sum(counts) / max(1, len(counts))


def few_rows(counts, most):
    """Rows of an item for few rows at most: few adapters with many rows must not hold up the others."""
    return min(most, max(8, int(2 * mean(counts)) // 8 * 8))


def halve_rows(rows, least, blocks, enough):
    """The largest share of rows, from `rows` down to `least`, that makes enough blocks."""
    while rows > least and blocks(rows) < enough:
        rows = max(least, rows // 2 // least * least)
    return rows


def many_rows(counts, clusters_per_item):
    """Rows of an item of lora_shrink_rows: the fewest with which all clusters still run at once, or else the most."""
    def at_once(rows):
        return clusters_per_item * sum(-(-count // rows) for count in counts) <= CLUSTERS_AT_ONCE

    return min(filter(at_once, range(32, MANY_ROWS, 16)), default=MANY_ROWS)


FRAGMENT_BYTES = 512


def shrink_plan(groups, hidden):
    cluster, splits = clusters(hidden)
    active = [(g, sum(r for _, r in g.targets) // 16) for g in groups]
    active = [(g, b) for g, b in active if g.count and b]
    in_all = sum(g.count for g, _ in active if g.count >= MANY_SHRINK_FROM)
    from_count = MANY_SHRINK_FROM if in_all >= MANY_SHRINK_IN_ALL else 1 << 30

    few = [a for a in active if a[0].count < from_count]
    many = [a for a in active if a[0].count >= from_count]

    def few_blocks(rows):
        return cluster * splits * sum(-(-g.count // rows) * -(-b // SHRINK_RANK_BLOCKS) for g, b in few)

    def items(chosen, rows, multiple, rank_blocks):
        return [(g.a + block * 2 * FRAGMENT_BYTES, g.begin + row, row_count, count, total, block, 0, 0)
                for g, total in chosen
                for row, row_count in even_ranges(g.count, rows, multiple)
                for block, count in ranges(total, rank_blocks)]

    rows = halve_rows(few_rows([g.count for g, _ in few], SHRINK_ROWS), 8, few_blocks, ENOUGH_BLOCKS)
    rank_shares = max([-(-b // MANY_RANK_BLOCKS) for _, b in many], default=1)
    return Launches(items(few, rows, 8, SHRINK_RANK_BLOCKS),
                    items(many, many_rows([g.count for g, _ in many], splits * rank_shares), 16, MANY_RANK_BLOCKS))


def blocks_held(rank):
    """Feature blocks of one lora_expand item at most."""
    rank_blocks = 4 if rank > 32 else 2 if rank > 16 else 1
    return EXPAND_WARPS * EXPAND_FRAGMENTS // (4 * rank_blocks)


def expand_plan(groups, features, add):
    """features: of each target."""
    few, many = [], []
    shares = sum(-(-g.count // 64) * -(-n // 256) for g in groups for n in features)
    large_mean = mean([g.count for g in groups if g.count]) >= MANY_EXPAND_FROM and shares >= MANY_EXPAND_BLOCKS
    for g in groups:
        v_block = y_offset = 0
        for (b, rank), n in zip(g.targets, features):
            if g.count and (rank or not add):
                large = large_mean and g.count >= MANY_EXPAND_FROM and rank <= MANY_RANKS
                (many if large else few).append((g.begin, g.count, b, rank, v_block, y_offset, n))
            v_block += rank // 16
            y_offset += n

    def item(part, block, blocks, row, rows):
        begin, _, b, rank, v_block, y_offset, n = part
        return (b + block * rank // 16 * 4 * FRAGMENT_BYTES, begin + row, rows, blocks, rank // 16, v_block,
                y_offset + block * 64, min(blocks * 64, n - block * 64))

    share = 1

    def held(rank):
        return max(EXPAND_WARPS, blocks_held(rank) // share)

    def few_blocks(rows):
        return sum(-(-count // rows) * -(-n // (64 * held(rank))) for _, count, _, rank, _, _, n in few)

    while share < 4 and few_blocks(EXPAND_ROWS) < ENOUGH_BLOCKS:
        share *= 2
    rows = EXPAND_ROWS
    if few_blocks(rows) < FEW_ROWS_BLOCKS:
        rows = few_rows([part[1] for part in few], rows)
    rows = halve_rows(rows, 8, few_blocks, ENOUGH_BLOCKS)
    few_items = [item(part, block, blocks, row, row_count)
                 for part in few
                 for block, blocks in ranges(-(-part[6] // 64), held(part[3]))
                 for row, row_count in even_ranges(part[1], rows, 8)]
    rows = halve_rows(MANY_ROWS, 16, lambda rows: sum(
        -(-part[1] // rows) * -(-part[6] // (64 * MANY_FEATURE_BLOCKS)) for part in many), ENOUGH_BLOCKS)
    many_items = [item(part, block, blocks, row, row_count)
                  for part in many
                  for row, row_count in even_ranges(part[1], rows, 16)
                  for block, blocks in ranges(-(-part[6] // 64), MANY_FEATURE_BLOCKS)]
    return Launches(few_items, many_items)
