// LoRA for few rows per adapter: y[row, :] (+)= factor[row] * scale_a * B_a (A_a x[row, :]) for rows sorted by adapter a (or by adapter and
// expert), ranks mixed in one launch; bf16 in and out, fp32 sums. Two kernels: lora_shrink, then lora_expand, which
// with programmatic dependent launch fetches its weights while lora_shrink still runs. lora_shrink_large is lora_shrink for so
// much work that blocks which stay are faster; it gives the same bits.
//
// Shapes    x [*, H] bf16, v [S][vRows][vStride] fp32 (workspace), up to three y_t [*, N_t] bf16; xRows, yRows map sorted rows
//           to rows of x and y (a row of x may occur more than once, a row of y not), factors per sorted row or null.
// Layout    lora.cuh.
// Limits    H and features of a target multiples of 8, packed in multiples of 32 and 64; ranks multiples of 16; strides
//           multiples of 8 values, pointers aligned to 16 bytes; up to 64 rows per tile.
// Bytes     A and B of every adapter once, x once per 32 ranks (from the L2 after the first), y once (twice if added to).
// Order     a value of v is summed over 16-wide k steps, warps, blocks of a cluster and clusters in this order, a value
//           of y over rank blocks: neither depends on the other rows, nor on how the work was cut into items.

#include "lora.cuh"

constexpr int SHRINK_WARPS = 8;
constexpr int SHRINK_THREADS = SHRINK_WARPS * WARP;
constexpr int WARP_K = 64;                          // reduced values per warp
static_assert(SHRINK_WARPS * WARP_K == CHUNK);       // per block
constexpr int SHRINK_RANK_BLOCKS = 2;               // rank blocks at a time: 128 bytes of A per lane
constexpr int SHRINK_ROWS = 64;                     // rows of a tile at most
constexpr int SUMS = 3;                             // of units: being added up, complete, read by others
constexpr int SHRINK_RANKS = SHRINK_RANK_BLOCKS * RANK_BLOCK;
constexpr int PARTIAL_STRIDE = SHRINK_RANKS + 4;    // + 4: no bank conflicts between the lanes of a fragment

constexpr int EXPAND_WARPS = 4;
constexpr int EXPAND_THREADS = EXPAND_WARPS * WARP;
constexpr int EXPAND_FRAGMENTS = 16;                // fragments of B that a lane holds: 256 bytes
constexpr int MOST_ROUND = 4;                       // rank blocks of a round at most

// RB: rank blocks held by a warp (1 or 2), from rank block `block` on.
template <int RB>
__device__ void shrink(const LoraItem& item, int block, const __nv_bfloat16* __restrict__ x,
                       long long xStride, const int* xRows, int hidden, float* partials, float* sums) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int chunks = (hidden + CHUNK - 1) / CHUNK;
    const int pair = (blockIdx.x * CHUNK + warp * WARP_K) / 32;  // first 32 reduced values
    const int pairs = (hidden + 31) / 32;

    int xRow = g < item.rows ? loadInt(xRows + item.row + g) : 0;
    const uint4* pieces[RB];
#pragma unroll
    for (int rb = 0; rb < RB; rb++)
        pieces[rb] = pair < pairs ? loadPiece(item.pieces + (block + rb) * chunks + blockIdx.x) : nullptr;
    uint4 weights[RB][4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
#pragma unroll
        for (int rb = 0; rb < RB; rb++)
            weights[rb][k] = pair + k / 2 < pairs ? loadWeights(pieces[rb] + (warp * 4 + k) * FRAGMENT + lane) : uint4{};
    }
    awaitPreviousKernel();

    auto loadX = [&](int row, uint4 (&values)[2]) {
        values[0] = values[1] = uint4{};
        if (row + g < item.rows) {
            const uint4* source = reinterpret_cast<const uint4*>(x + xRow * xStride) + pair * 4 + c;
            if (pair * 32 + c * 8 < hidden) values[0] = loadInput(source);
            if ((pair + 1) * 32 + c * 8 < hidden) values[1] = loadInput(source + 4);
            if (row + TILE_ROWS + g < item.rows) xRow = loadInt(xRows + item.row + row + TILE_ROWS + g);
        }
    };
    uint4 next[2];
    loadX(0, next);
    for (int row = 0; row < item.rows; row += TILE_ROWS) {
        const uint4 now[2] = {next[0], next[1]};
        loadX(row + TILE_ROWS, next);
        float d[RB][4] = {};
#pragma unroll
        for (int rb = 0; rb < RB; rb++) {
            mma(d[rb], weights[rb][0], now[0].x, now[0].y);
            mma(d[rb], weights[rb][1], now[0].z, now[0].w);
            mma(d[rb], weights[rb][2], now[1].x, now[1].y);
            mma(d[rb], weights[rb][3], now[1].z, now[1].w);
        }
        float* mine = partials + (warp * TILE_ROWS + 2 * c) * PARTIAL_STRIDE + g;
#pragma unroll
        for (int rb = 0; rb < RB; rb++) {
            mine[rb * 16] = d[rb][0];
            mine[rb * 16 + PARTIAL_STRIDE] = d[rb][1];
            mine[rb * 16 + 8] = d[rb][2];
            mine[rb * 16 + 8 + PARTIAL_STRIDE] = d[rb][3];
        }
        __syncthreads();
        const int r = threadIdx.x / (RB * 16), rank = threadIdx.x % (RB * 16);
        if (r < TILE_ROWS) {
            float sum = 0;
#pragma unroll
            for (int w = 0; w < SHRINK_WARPS; w++) sum += partials[(w * TILE_ROWS + r) * PARTIAL_STRIDE + rank];
            sums[(row + r) * SHRINK_RANKS + rank] = sum;
        }
        __syncthreads();
    }
}

// Grid (C * S, tiles, shares), clusters of C blocks along x: block b of a tile reduces values [512 b, 512 b + 512) of x, a
// cluster's blocks are summed up here, the S clusters' by lora_expand. planned: tiles are written by the previous kernel.
extern "C" __global__ void __launch_bounds__(SHRINK_THREADS, 4)
    lora_shrink(const void* tiles, const void* names, int planned, const __nv_bfloat16* __restrict__ x, long long xStride,
                const int* xRows, int hidden, float* v, int vStride, int vRows) {
    __shared__ float partials[SHRINK_WARPS * TILE_ROWS * PARTIAL_STRIDE];
    __shared__ float sums[SHRINK_ROWS * SHRINK_RANKS];
    // Only after it, so that what the previous kernel wrote is there when a block of the next one starts.
    if (planned) awaitPreviousKernel();
    allowNextKernel();
    const LoraItem item = loadItem(tiles, names, blockIdx.y);
    if (item.rows == 0) {
        if (blockIdx.y == 0) awaitPreviousKernel();
        return;
    }
    for (int block = blockIdx.z * SHRINK_RANK_BLOCKS; block < item.rankBlocks; block += gridDim.z * SHRINK_RANK_BLOCKS) {
        const int blocks = min(SHRINK_RANK_BLOCKS, item.rankBlocks - block);
        if (blocks > 1) {
            shrink<2>(item, block, x, xStride, xRows, hidden, partials, sums);
        } else {
            shrink<1>(item, block, x, xStride, xRows, hidden, partials, sums);
        }
        clusterBarrier();
        float* target = v + (static_cast<long long>(blockIdx.x / clusterSize()) * vRows + item.row) * vStride + block * RANK_BLOCK;
        sumOverCluster<SHRINK_RANKS>(sums, SHRINK_RANKS, item.rows, blocks * RANK_BLOCK, target, vStride);
        clusterBarrier();  // no block may leave or go on while others read its sums
    }
}

// What a cluster of lora_shrink_large has to do at a time: the block's part of A for two rank blocks of a tile.
struct ShrinkUnit {
    const uint4* pieces[SHRINK_RANK_BLOCKS];  // null: nothing there
    float* target;                            // of v
    int row, rows, ranks;                     // no rows: nothing to do
    int chunk;                                // of x
};
constexpr int SHRINK_UNITS = SHRINK_THREADS / TILE_ROWS;  // whose descriptions are fetched at a time

// Grid (C * n): n clusters of C blocks, each of which takes every nth unit. Block b of a cluster reduces values
// [512 b, 512 b + 512) of the split's part of x; a cluster's blocks are summed up here, the splits by lora_expand.
// planned: tiles are written by the previous kernel.
extern "C" __global__ void __launch_bounds__(SHRINK_THREADS, 4)
    lora_shrink_large(const void* tiles, const void* names, int tileCount, int shares, int splits, int planned,
                const __nv_bfloat16* __restrict__ x, long long xStride, const int* xRows, int hidden, float* v, int vStride,
                int vRows) {
    __shared__ float partials[2][SHRINK_WARPS * TILE_ROWS * PARTIAL_STRIDE];
    __shared__ float sums[SUMS][SHRINK_ROWS * SHRINK_RANKS];
    __shared__ ShrinkUnit units[SHRINK_UNITS];
    __shared__ int firstRows[SHRINK_UNITS][TILE_ROWS];  // of x
    // Only after it, so that what the previous kernel wrote is there when a block of the next one starts.
    if (planned) awaitPreviousKernel();
    allowNextKernel();
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int blocks = clusterSize(), clusters = gridDim.x / blocks, cluster = blockIdx.x / blocks;
    const int chunks = (hidden + CHUNK - 1) / CHUNK;
    const int unitCount = tileCount * shares * splits;
    int buffer = 0, half = 0;
    for (int first = cluster; first < unitCount; first += SHRINK_UNITS * clusters) {
        const int count = min(SHRINK_UNITS, (unitCount - first + clusters - 1) / clusters);
        // All descriptions at once: the loads of which one needs the other's result are waited for once.
        const int mine = threadIdx.x / TILE_ROWS, row = threadIdx.x % TILE_ROWS;
        if (mine < count) {
            const int index = first + mine * clusters, split = index % splits, tile = index / splits / shares;
            const int block = index / splits % shares * SHRINK_RANK_BLOCKS;
            const LoraItem item = loadItem(tiles, names, tile);
            const int chunk = split * blocks + clusterRank();
            const int rankBlocks = min(SHRINK_RANK_BLOCKS, item.rankBlocks - block);
            const int rows = rankBlocks > 0 ? item.rows : 0;
            if (row < SHRINK_RANK_BLOCKS)
                units[mine].pieces[row] = rows > 0 && row < rankBlocks && chunk < chunks
                    ? loadPiece(item.pieces + (block + row) * chunks + chunk) : nullptr;
            firstRows[mine][row] = row < rows ? loadInt(xRows + item.row + row) : 0;
            if (row == 0) {
                units[mine].target = v + (static_cast<long long>(split) * vRows + item.row) * vStride + block * RANK_BLOCK;
                units[mine].row = item.row;
                units[mine].rows = rows;
                units[mine].ranks = rankBlocks * RANK_BLOCK;
                units[mine].chunk = chunk;
            }
        }
        __syncthreads();
        auto from = [&](int i) {  // the next unit with something to do
            while (i < count && units[i].rows == 0) i++;
            return i;
        };
        uint4 weights[SHRINK_RANK_BLOCKS][4];
        auto pairOf = [&](int i) {  // first 32 reduced values of the warp
            return (units[i].chunk * CHUNK + warp * WARP_K) / 32;
        };
        auto loadA = [&](int i) {
            const int pair = pairOf(i), pairs = (hidden + 31) / 32;
#pragma unroll
            for (int rb = 0; rb < SHRINK_RANK_BLOCKS; rb++) {
                const uint4* piece = units[i].pieces[rb];
#pragma unroll
                for (int k = 0; k < 4; k++)
                    weights[rb][k] = piece && pair + k / 2 < pairs ? loadWeights(piece + (warp * 4 + k) * FRAGMENT + lane) : uint4{};
            }
        };
        uint4 next[2];
        int xRow = 0;
        auto loadX = [&](int i, int row) {
            next[0] = next[1] = uint4{};
            const int rows = units[i].rows;
            if (row + g < rows) {
                const int from = row == 0 ? firstRows[i][g] : xRow, pair = pairOf(i);
                const uint4* source = reinterpret_cast<const uint4*>(x + from * xStride) + pair * 4 + c;
                if (pair * 32 + c * 8 < hidden) next[0] = loadInput(source);
                if ((pair + 1) * 32 + c * 8 < hidden) next[1] = loadInput(source + 4);
                if (row + TILE_ROWS + g < rows) xRow = loadInt(xRows + units[i].row + row + TILE_ROWS + g);
            }
        };
        // Adds up over the cluster what was completed last, before buffer.
        auto finish = [&](int i) {
            awaitCluster();
            sumOverCluster<SHRINK_RANKS>(sums[(buffer + SUMS - 1) % SUMS], SHRINK_RANKS, units[i].rows, units[i].ranks,
                                         units[i].target, vStride, i);
        };
        int i = from(0), before = -1;
        if (i < count) loadA(i);
        awaitPreviousKernel();
        if (i < count) loadX(i, 0);
        while (i < count) {
            const int rows = units[i].rows, following = from(i + 1);
            for (int row = 0; row < rows; row += TILE_ROWS) {
                const uint4 now[2] = {next[0], next[1]};
                const bool last = row + TILE_ROWS >= rows;
                if (!last) loadX(i, row + TILE_ROWS);
                float d[SHRINK_RANK_BLOCKS][4] = {};
#pragma unroll
                for (int rb = 0; rb < SHRINK_RANK_BLOCKS; rb++) {
                    mma(d[rb], weights[rb][0], now[0].x, now[0].y);
                    mma(d[rb], weights[rb][1], now[0].z, now[0].w);
                    mma(d[rb], weights[rb][2], now[1].x, now[1].y);
                    mma(d[rb], weights[rb][3], now[1].z, now[1].w);
                }
                if (last && following < count) {  // under way while this unit is summed up
                    loadA(following);
                    loadX(following, 0);
                }
                float* part = partials[half] + (warp * TILE_ROWS + 2 * c) * PARTIAL_STRIDE + g;
#pragma unroll
                for (int rb = 0; rb < SHRINK_RANK_BLOCKS; rb++) {
                    part[rb * 16] = d[rb][0];
                    part[rb * 16 + PARTIAL_STRIDE] = d[rb][1];
                    part[rb * 16 + 8] = d[rb][2];
                    part[rb * 16 + 8 + PARTIAL_STRIDE] = d[rb][3];
                }
                __syncthreads();  // so everybody has read the other half
                const int r = threadIdx.x / SHRINK_RANKS, rank = threadIdx.x % SHRINK_RANKS;
                static_assert(SHRINK_THREADS == TILE_ROWS * SHRINK_RANKS);
                float sum = 0;
#pragma unroll
                for (int w = 0; w < SHRINK_WARPS; w++) sum += partials[half][(w * TILE_ROWS + r) * PARTIAL_STRIDE + rank];
                sums[buffer][(row + r) * SHRINK_RANKS + rank] = sum;
                half ^= 1;
            }
            // The unit before is added up only now, so that nobody waits for the slowest block of the cluster. Who arrives has
            // read the sums before those, whose buffer is the next.
            if (before >= 0) finish(before);
            arriveAtCluster();
            before = i;
            buffer = (buffer + 1) % SUMS;
            i = following;
        }
        if (before >= 0) finish(before);
        __syncthreads();  // the descriptions are no longer read
    }
    clusterBarrier();  // no block may leave while others read its sums
    awaitPreviousKernel();
}

// RB: rank blocks of a round (1, 2 or 4; ranks between are guarded, larger ones take several rounds).
template <int RB>
__device__ void expand(const LoraItem& item, const LoraTarget& target, int first, int blocks, const float* v, int vStride,
                       int vRows, int splits, const int* yRows, const float* factors, bool add) {
    constexpr int BLOCKS = EXPAND_FRAGMENTS / (RB * 4);  // feature blocks per warp
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int rankBlocks = item.rankBlocks;

    const uint4* pieces[BLOCKS];
#pragma unroll
    for (int b = 0; b < BLOCKS; b++)
        pieces[b] = b * EXPAND_WARPS + warp < blocks ? loadPiece(item.pieces + 2 + first + b * EXPAND_WARPS + warp) : nullptr;
    uint4 weights[BLOCKS][RB][4];
    auto loadRound = [&](int round) {
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            const uint4* source = pieces[b] + round * 4 * FRAGMENT + lane;
#pragma unroll
            for (int rb = 0; rb < RB; rb++)
#pragma unroll
                for (int f = 0; f < 4; f++)
                    weights[b][rb][f] = pieces[b] && round + rb < rankBlocks
                        ? loadWeights(source + (rb * 4 + f) * FRAGMENT) : uint4{};
        }
    };
    // A lane's features: 8 of each of its blocks, of two rows per tile.
    const int feature = (first + warp) * FEATURE_BLOCK + 8 * g;
    auto locate = [&](int row, int half) -> uint4* {
        const int r = row + 2 * c + half;
        if (r >= item.rows) return nullptr;
        return reinterpret_cast<uint4*>(target.y + loadInt(yRows + item.row + r) * target.stride + feature);
    };
    auto inside = [&](int b) {
        return b * EXPAND_WARPS + warp < blocks && feature + b * EXPAND_WARPS * FEATURE_BLOCK < target.features;
    };
    constexpr int STEP = EXPAND_WARPS * FEATURE_BLOCK / 8;  // from one block of a warp to the next, in 16 bytes

    loadRound(0);
    const float scale = __ldg(reinterpret_cast<const float*>(item.pieces));
    uint4* rows[2] = {locate(0, 0), locate(0, 1)};
    if (add) {
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int b = 0; b < BLOCKS; b++)
                if (rows[half] && inside(b)) prefetchL2(rows[half] + b * STEP);
    }
    awaitPreviousKernel();

    for (int row = 0; row < item.rows; row += TILE_ROWS) {
        unsigned lo[RB], hi[RB];
        auto loadV = [&](int round) {
#pragma unroll
            for (int rb = 0; rb < RB; rb++) {
                float4 sum{};
                if (row + g < item.rows && round + rb < rankBlocks) {
                    sum = sumOverSplits(v + static_cast<long long>(item.row + row + g) * vStride +
                                            (item.vBlock + round + rb) * RANK_BLOCK + 4 * c,
                                        static_cast<long long>(vRows) * vStride, splits);
                }
                lo[rb] = packBf16(sum.x, sum.y), hi[rb] = packBf16(sum.z, sum.w);
            }
        };
        uint4 old[BLOCKS][2];
#pragma unroll
        for (int b = 0; b < BLOCKS; b++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                old[b][half] = add && rows[half] && inside(b) ? rows[half][b * STEP] : uint4{};
        loadV(0);
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            float d[4][4] = {};
            for (int round = 0; round == 0 || (RB == MOST_ROUND && round < rankBlocks); round += RB) {
                if (RB == MOST_ROUND && rankBlocks > RB) {
                    loadRound(round);
                    loadV(round);
                }
#pragma unroll
                for (int rb = 0; rb < RB; rb++)
#pragma unroll
                    for (int f = 0; f < 4; f++) mma(d[f], weights[b][rb][f], lo[rb], hi[rb]);
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                if (!rows[half] || !inside(b)) continue;
                const float factor = factors ? scale * loadFactor(factors + item.row + row + 2 * c + half) : scale;
                rows[half][b * STEP] = addScaled(old[b][half], factor, d, half);
            }
        }
        rows[0] = locate(row + TILE_ROWS, 0);
        rows[1] = locate(row + TILE_ROWS, 1);
    }
}

// Grid (tiles, shares of all targets). A block takes as many feature blocks as its warps hold, but at most `most`, a
// multiple of 4. Without add, y is written where a tile has the target, and nowhere else.
extern "C" __global__ void __launch_bounds__(EXPAND_THREADS, 4)
    lora_expand(const void* tiles, const LoraTarget t0, const LoraTarget t1, const LoraTarget t2, int most, const float* v,
                int vStride, int vRows, int splits, const int* yRows, const float* factors, int add) {
    allowNextKernel();
    int share;
    const LoraTarget target = chooseTarget(t0, t1, t2, share);
    const LoraItem item = loadItem(tiles, target.names, blockIdx.x);
    const int held = min(most, EXPAND_WARPS * EXPAND_FRAGMENTS / 4 / (item.rankBlocks > 2 ? 4 : item.rankBlocks > 1 ? 2 : 1));
    const int all = (target.features + FEATURE_BLOCK - 1) / FEATURE_BLOCK;
    if (item.rows == 0 || share * held >= all) {
        if (blockIdx.x == 0) awaitPreviousKernel();
        return;
    }
    for (int first = share * held; first < all; first += target.shares * held) {
        const int blocks = min(held, all - first);
        if (item.rankBlocks > 2) {
            expand<4>(item, target, first, blocks, v, vStride, vRows, splits, yRows, factors, add);
        } else if (item.rankBlocks > 1) {
            expand<2>(item, target, first, blocks, v, vStride, vRows, splits, yRows, factors, add);
        } else {
            expand<1>(item, target, first, blocks, v, vStride, vRows, splits, yRows, factors, add);
        }
    }
}
