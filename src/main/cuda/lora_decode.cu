// LoRA for few rows per adapter: y[row, :] (+)= scale[row] * B_a (A_a x[row, :]) for rows sorted by adapter a (or by adapter and
// expert), ranks mixed in one launch; bf16 in and out, fp32 sums. Two kernels: lora_shrink, then lora_expand, which
// with programmatic dependent launch fetches its weights while lora_shrink still runs.
//
// Shapes    x [*, H] bf16, v [S][rows][vStride] fp32 (workspace), y [*, N] bf16; xRows, yRows [rows] map sorted rows to
//           rows of x and y (a row of x may occur more than once, a row of y not), scale [rows] or null.
// Layout    lora.cuh.
// Limits    H and every rank padded to multiples of 32 and 16; features of a target multiples of 8, packed in
//           blocks of 64; strides multiples of 8 values, pointers aligned to 16 bytes.
// Bytes     A and B of every adapter once, x once per 32 ranks (from the L2 after the first), y once (twice if added to).
// Order     a value of v is summed over 16-wide k steps, warps, blocks of a cluster and clusters in this order, a value
//           of y over rank blocks: neither depends on the other rows, nor on how the work was cut into items.

#include "lora.cuh"

constexpr int SHRINK_WARPS = 8;
constexpr int SHRINK_THREADS = SHRINK_WARPS * WARP;
constexpr int WARP_K = 64;                          // reduced values per warp
constexpr int SHRINK_K = SHRINK_WARPS * WARP_K;     // and per block
constexpr int SHRINK_RANK_BLOCKS = 2;               // rank blocks of an item at most: 128 bytes of A per lane
constexpr int SHRINK_ROWS = 64;                     // rows of an item at most
constexpr int SHRINK_RANKS = SHRINK_RANK_BLOCKS * RANK_BLOCK;
constexpr int PARTIAL_STRIDE = SHRINK_RANKS + 4;    // + 4: no bank conflicts between the lanes of a fragment

constexpr int EXPAND_WARPS = 4;
constexpr int EXPAND_THREADS = EXPAND_WARPS * WARP;
constexpr int EXPAND_FRAGMENTS = 16;                // fragments of B that a lane holds: 256 bytes

// RB: rank blocks held by a warp (1 or 2).
template <int RB>
__device__ void shrink(const LoraItem& item, const __nv_bfloat16* __restrict__ x,
                       long long xStride, const int* __restrict__ xRows, int hidden, float* partials, float* sums) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int pair = (blockIdx.x * SHRINK_K + warp * WARP_K) / 32;  // first 32 reduced values
    const int pairs = hidden / 32;

    int xRow = g < item.rows ? __ldg(xRows + item.row + g) : 0;
    uint4 weights[RB][4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
#pragma unroll
        for (int rb = 0; rb < RB; rb++) {
            const int p = pair + k / 2;
            weights[rb][k] = p < pairs
                ? loadWeights(item.weights + ((p * item.rankBlocks + rb) * 2 + k % 2) * FRAGMENT + lane)
                : uint4{};
        }
    }
    awaitPreviousKernel();

    auto loadX = [&](int row, uint4 (&values)[2]) {
        values[0] = values[1] = uint4{};
        if (row + g < item.rows) {
            const uint4* source = reinterpret_cast<const uint4*>(x + xRow * xStride) + pair * 4 + c;
            if (pair < pairs) values[0] = __ldg(source);
            if (pair + 1 < pairs) values[1] = __ldg(source + 4);
            if (row + TILE_ROWS + g < item.rows) xRow = __ldg(xRows + item.row + row + TILE_ROWS + g);
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

// Grid (C * S, items), clusters of C blocks along x: block b of an item reduces values [512 b, 512 b + 512) of x, a cluster's
// blocks are summed up here, the S clusters' by lora_expand.
extern "C" __global__ void __launch_bounds__(SHRINK_THREADS, 4)
    lora_shrink(const LoraItem* items, const __nv_bfloat16* __restrict__ x, long long xStride,
                const int* __restrict__ xRows, int hidden, float* v, int vStride, int vRows) {
    __shared__ float partials[SHRINK_WARPS * TILE_ROWS * PARTIAL_STRIDE];
    __shared__ float sums[SHRINK_ROWS * SHRINK_RANKS];
    allowNextKernel();
    const LoraItem item = loadItem(items, blockIdx.y);
    if (item.rows == 0) return;
    if (item.blocks > 1) {
        shrink<2>(item, x, xStride, xRows, hidden, partials, sums);
    } else {
        shrink<1>(item, x, xStride, xRows, hidden, partials, sums);
    }
    clusterBarrier();
    sumOverCluster<SHRINK_RANKS>(sums, SHRINK_RANKS, item, v, vStride, vRows);
    clusterBarrier();  // no block may leave while others read its sums
}

// RB: rank blocks of a round (1, 2 or 4; ranks between are guarded, larger ones take several rounds).
template <int RB>
__device__ void expand(const LoraItem& item, const float* v, int vStride, int vRows, int splits,
                       const int* __restrict__ yRows, const float* __restrict__ scale, __nv_bfloat16* y, long long yStride,
                       bool add) {
    constexpr int BLOCKS = EXPAND_FRAGMENTS / (RB * 4);  // feature blocks per warp
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int rankBlocks = item.rankBlocks;

    uint4 weights[BLOCKS][RB][4];
    auto loadRound = [&](int round) {
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            const int block = b * EXPAND_WARPS + warp;
            const uint4* source = item.weights + (block * rankBlocks + round) * 4 * FRAGMENT + lane;
#pragma unroll
            for (int rb = 0; rb < RB; rb++)
#pragma unroll
                for (int f = 0; f < 4; f++)
                    weights[b][rb][f] = block < item.blocks && round + rb < rankBlocks
                        ? loadWeights(source + (rb * 4 + f) * FRAGMENT) : uint4{};
        }
    };
    // A lane's features: 8 of each of its blocks, of two rows per tile.
    const int feature = warp * FEATURE_BLOCK + 8 * g;
    auto locate = [&](int row, int half) -> uint4* {
        const int r = row + 2 * c + half;
        if (r >= item.rows) return nullptr;
        return reinterpret_cast<uint4*>(y + __ldg(yRows + item.row + r) * yStride + item.yOffset + feature);
    };
    auto inside = [&](int b) {
        return b * EXPAND_WARPS + warp < item.blocks && feature + b * EXPAND_WARPS * FEATURE_BLOCK < item.features;
    };
    constexpr int STEP = EXPAND_WARPS * FEATURE_BLOCK / 8;  // from one block of a warp to the next, in 16 bytes

    loadRound(0);
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
            for (int round = 0; round == 0 || round < rankBlocks; round += RB) {
                if (rankBlocks > RB) {
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
                const float factor = scale ? __ldg(scale + item.row + row + 2 * c + half) : 1.0f;
                rows[half][b * STEP] = addScaled(old[b][half], factor, d, half);
            }
        }
        rows[0] = locate(row + TILE_ROWS, 0);
        rows[1] = locate(row + TILE_ROWS, 1);
    }
}

// Grid (items). Without add, items of rank 0 write zeros.
extern "C" __global__ void __launch_bounds__(EXPAND_THREADS, 4)
    lora_expand(const LoraItem* items, const float* v, int vStride, int vRows, int splits,
                const int* __restrict__ yRows, const float* __restrict__ scale, __nv_bfloat16* y, long long yStride, int add) {
    const LoraItem item = loadItem(items, blockIdx.x);
    if (item.rows == 0) return;
    if (item.rankBlocks > 2) {
        expand<4>(item, v, vStride, vRows, splits, yRows, scale, y, yStride, add);
    } else if (item.rankBlocks > 1) {
        expand<2>(item, v, vStride, vRows, splits, yRows, scale, y, yStride, add);
    } else {
        expand<1>(item, v, vStride, vRows, splits, yRows, scale, y, yStride, add);
    }
}
