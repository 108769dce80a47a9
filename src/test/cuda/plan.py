"""How the rows of a batch become tiles (src/main/cuda/lora.cuh): backend.cuda.LoraTiling in Python."""

# The limits of the kernels (their sources say the same).
SHRINK_K, MAX_CLUSTER = 512, 8
SHRINK_ROWS, SHRINK_RANK_BLOCKS = 64, 2
EXPAND_ROWS, EXPAND_WARPS, EXPAND_FRAGMENTS = 64, 4, 16
MANY_ROWS, MANY_RANK_BLOCKS, MANY_FEATURE_BLOCKS, MANY_RANKS = 128, 4, 4, 64

ENOUGH_BLOCKS = 2 * 132  # cut finer below this many blocks of threads

# Blocks of lora_shrink from which on lora_shrink_large is faster, on tiles from the host and on planned ones, of which some
# have no rows.
LARGE, LARGE_PLANNED = 1024, 1536

# Blocks of lora_shrink_large that share the work on an H100: three per multiprocessor, which leaves room for the first blocks of
# lora_expand; in whole clusters.
SHRINK_AT_ONCE = 384

# Clusters of 8 blocks of lora_shrink_rows that an H100 runs at once, two blocks per multiprocessor.
CLUSTERS_AT_ONCE = 30

# Adapters of this many rows go through the kernels for many rows: shrink only if there are that many in all.
MANY_SHRINK_FROM, MANY_SHRINK_IN_ALL = 48, 1024
MANY_EXPAND_FROM = 24        # and the mean at least as large,
MANY_EXPAND_BLOCKS = 100     # and so much to do, in shares of 64 rows and 256 features
FEW_ROWS_BLOCKS = 8 * 132    # few adapters with many rows are cut finer below this many blocks of lora_expand
FETCH_TABLES = 512           # routed rows up to which the plan fetches tables: one multiprocessor would take too long


class Group:
    """Rows [begin, begin + count) of the sorted order, and the site (pages.Site) that they go through."""

    def __init__(self, begin, count, site):
        self.begin, self.count, self.site = begin, count, site


class Launch:
    """Of one kernel: tiles as (first row, rows, group), blocks that share a tile, and (expand) their feature blocks."""

    def __init__(self, tiles=(), shares=(), most=0):
        self.tiles, self.shares, self.most = list(tiles), shares, most


def clusters(hidden):
    """Blocks per cluster and clusters that reduce one row of x: of the hidden size alone, so that results never
    depend on the batch."""
    blocks = -(-hidden // SHRINK_K)
    splits = -(-blocks // MAX_CLUSTER)
    return -(-blocks // splits), splits


class Alike(list):
    """Estimated counts."""

    def __init__(self, groups, rows):
        super().__init__([rows] * groups)


def tiles(counts, most):
    if isinstance(counts, Alike):  # around the mean, a group's last tile is half full
        return max(len(counts), int(len(counts) * (counts[0] / most + 0.5)))
    return sum(-(-count // most) for count in counts)


def cut(begin, count, most):
    """Ranges of about the same size, multiples of 8 but the last."""
    parts = -(-count // most)
    step = -(-(-(-count // parts)) // 8) * 8
    return [(begin + i, min(step, count - i)) for i in range(0, count, step)]


def mean(counts):
    return sum(counts) / max(1, len(counts))


def few_rows(counts, most):
    """Rows of a tile for few rows at most: few adapters with many rows must not hold up the others."""
    return min(most, max(8, int(2 * mean(counts)) // 8 * 8))


def halve_rows(rows, least, blocks, enough):
    """The largest share of rows, from `rows` down to `least`, that makes enough blocks."""
    while rows > least and blocks(rows) < enough:
        rows = max(least, rows // 2 // least * least)
    return rows


def many_shrink_rows(counts, clusters_per_tile):
    """Rows of a tile of lora_shrink_rows: the fewest with which all clusters still run at once, or else the most."""
    return min(filter(lambda rows: clusters_per_tile * tiles(counts, rows) <= CLUSTERS_AT_ONCE, range(32, MANY_ROWS, 16)),
               default=MANY_ROWS)


def few_shrink_rows(counts, hidden, shares):
    cluster, splits = clusters(hidden)
    return halve_rows(few_rows(counts, SHRINK_ROWS), 8, lambda rows: cluster * splits * shares * tiles(counts, rows),
                      ENOUGH_BLOCKS)


def many_shrink_from(counts):
    return MANY_SHRINK_FROM if sum(c for c in counts if c >= MANY_SHRINK_FROM) >= MANY_SHRINK_IN_ALL else 1 << 30


def many_expand_from(counts, features, rank):
    """rank: the largest of a target."""
    shares = tiles(counts, 64) * sum(-(-n // 256) for n in features)
    large = mean([c for c in counts if c]) >= MANY_EXPAND_FROM and shares >= MANY_EXPAND_BLOCKS and rank <= MANY_RANKS
    return MANY_EXPAND_FROM if large else 1 << 30


def held(rank):
    """Feature blocks that a block of lora_expand holds at most."""
    return EXPAND_WARPS * EXPAND_FRAGMENTS // (4 * (4 if rank > 32 else 2 if rank > 16 else 1))


def few_expand(counts, features, rank):
    """Rows of a tile, feature blocks of a share at most, shares of each target."""
    most = 16

    def shares():
        return [-(-n // (64 * min(most, held(rank)))) for n in features]

    while most > EXPAND_WARPS and tiles(counts, EXPAND_ROWS) * sum(shares()) < ENOUGH_BLOCKS:
        most //= 2
    rows = EXPAND_ROWS
    if tiles(counts, rows) * sum(shares()) < FEW_ROWS_BLOCKS:
        rows = few_rows(counts, rows)
    return halve_rows(rows, 8, lambda r: tiles(counts, r) * sum(shares()), ENOUGH_BLOCKS), most, shares()


def many_expand(counts, features):
    shares = [-(-n // (64 * MANY_FEATURE_BLOCKS)) for n in features]
    return halve_rows(MANY_ROWS, 16, lambda rows: tiles(counts, rows) * sum(shares), ENOUGH_BLOCKS), shares


def shrink_plan(groups, hidden):
    """Launches for few and for many rows."""
    active = [g for g in groups if g.count and sum(g.site.ranks)]
    limit = many_shrink_from([g.count for g in active])
    few, many = [g for g in active if g.count < limit], [g for g in active if g.count >= limit]
    blocks = max([sum(g.site.ranks) // 16 for g in active], default=1)
    shares, many_shares = -(-blocks // SHRINK_RANK_BLOCKS), -(-blocks // MANY_RANK_BLOCKS)
    rows = few_shrink_rows([g.count for g in few], hidden, shares)
    many_rows = many_shrink_rows([g.count for g in many], clusters(hidden)[1] * many_shares)
    return (Launch([(*t, g) for g in few for t in cut(g.begin, g.count, rows)], shares),
            Launch([(*t, g) for g in many for t in cut(g.begin, g.count, many_rows)], many_shares))


def expand_plan(groups, features):
    active = [g for g in groups if g.count and sum(g.site.ranks)]
    rank = max([max(g.site.ranks) for g in active], default=16)
    limit = many_expand_from([g.count for g in active], features, rank)
    few, many = [g for g in active if g.count < limit], [g for g in active if g.count >= limit]
    rows, most, shares = few_expand([g.count for g in few], features, rank)
    many_rows, many_shares = many_expand([g.count for g in many], features)
    return (Launch([(*t, g) for g in few for t in cut(g.begin, g.count, rows)], shares, most),
            Launch([(*t, g) for g in many for t in cut(g.begin, g.count, many_rows)], many_shares))


class Routed:
    """The tiling of routed rows, of which only the number is known: estimates, and what there can be at most."""

    def __init__(self, rows, groups, experts, hidden, features, rank, stacked):
        pairs = groups * experts
        used = max(1, round(pairs * (1 - (1 - 1 / pairs) ** rows)))
        counts = Alike(used, -(-rows // used))
        blocks = stacked // 16
        self.many_shrink = counts[0] >= many_shrink_from(counts)
        self.shrink_shares = -(-blocks // (MANY_RANK_BLOCKS if self.many_shrink else SHRINK_RANK_BLOCKS))
        self.shrink_rows = (many_shrink_rows(counts, clusters(hidden)[1] * self.shrink_shares) if self.many_shrink
                            else few_shrink_rows(counts, hidden, self.shrink_shares))
        self.many_expand = counts[0] >= many_expand_from(counts, features, rank)
        if self.many_expand:
            (self.expand_rows, self.expand_shares), self.most = many_expand(counts, features), 0
        else:
            self.expand_rows, self.most, self.expand_shares = few_expand(counts, features, rank)
        self.shrink_tiles = min(rows, min(rows, pairs) + rows // self.shrink_rows)
        self.expand_tiles = min(rows, min(rows, pairs) + rows // self.expand_rows)
        # Of lora_plan; 0: lora_plan_few.
        self.blocks = 0 if rows <= 1024 and 12 * pairs <= 200 << 10 else 1 if rows <= 4096 else 8
