// LoRA for many rows per adapter (prefill): the same function, buffers and layout as lora_decode.cu, and bit by bit the same
// results; the kernels of both may be mixed freely. Here a block shares its weights among 128 rows: lora_shrink_rows
// streams x through shared memory past them, lora_expand_rows holds them in registers and streams y.
//
// Limits    as lora_decode.cu, but up to 128 rows per tile; lora_expand_rows takes ranks up to 64 per target.
// Bytes     x once per 64 ranks, y once (twice if added to); A and B once, and once per 128 rows from the L2.

#include "lora.cuh"

constexpr int ROWS = 128;  // of a tile at most

constexpr int SHRINK_WARPS = 8;
constexpr int SHRINK_THREADS = SHRINK_WARPS * WARP;
constexpr int WARP_ROWS = ROWS / SHRINK_WARPS;
constexpr int WARP_TILES = WARP_ROWS / TILE_ROWS;
constexpr int GROUP_K = 64;      // summed up apart, as a warp of lora_decode.cu does
constexpr int GROUPS = CHUNK / GROUP_K;
constexpr int RANK_BLOCKS = 4;   // at a time at most
constexpr int SUMS_STRIDE = RANK_BLOCKS * RANK_BLOCK + 4;
constexpr int STAGES = 3;        // of x in flight per warp
constexpr int STAGE = WARP_ROWS * GROUP_K / 8;                                  // in 16 bytes
constexpr int WEIGHTS = CHUNK / 32 * RANK_BLOCKS * 2 * FRAGMENT;             // in 16 bytes

// Shared memory: A of the tile (later the sums), then each warp's stages of x.
static_assert(WEIGHTS * 16 >= ROWS * SUMS_STRIDE * 4);

// Row r of a stage has its 8 pieces of 16 bytes turned by 4 if r is odd: no bank conflicts.
__device__ __forceinline__ int piece(int row, int index) { return row * 8 + (index ^ (row % 2 * 4)); }

__device__ void shrinkRows(const LoraItem& item, int block, int blocks, const __nv_bfloat16* __restrict__ x, long long xStride,
                           const int* xRows, int hidden, float* v, int vStride, int vRows) {
    extern __shared__ uint4 shared[];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int chunks = (hidden + CHUNK - 1) / CHUNK;
    const int firstK = blockIdx.x * CHUNK;
    const int warpRow = warp * WARP_ROWS;
    uint4* stages = shared + WEIGHTS + warp * STAGES * STAGE;

    // Lane l copies piece l % 8 of rows l / 8, + 4, + 8, + 12.
    const __nv_bfloat16* sources[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int r = warpRow + i * 4 + lane / 8;
        sources[i] = r < item.rows ? x + loadInt(xRows + item.row + r) * xStride + firstK + lane % 8 * 8 : nullptr;
    }
    const int pieces = blocks * 2 * FRAGMENT;  // of A per 32 reduced values
    for (int rb = 0; rb < blocks; rb++) {
        const uint4* source = firstK < hidden ? loadPiece(item.pieces + (block + rb) * chunks + blockIdx.x) : nullptr;
#pragma unroll
        for (int pair = warp; pair < CHUNK / 32; pair += SHRINK_WARPS) {
            const bool present = firstK + pair * 32 < hidden;
            const uint4* from = present ? source + pair * 2 * FRAGMENT + lane : reinterpret_cast<const uint4*>(x);
            uint4* to = shared + pair * pieces + rb * 2 * FRAGMENT + lane;
            copyAsync(to, from, present);
            copyAsync(to + FRAGMENT, present ? from + FRAGMENT : from, present);
        }
    }
    awaitPreviousKernel();

    auto copyX = [&](int group) {
        if (group < GROUPS) {
            uint4* stage = stages + group % STAGES * STAGE;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const bool present = sources[i] && firstK + group * GROUP_K + lane % 8 * 8 < hidden;
                copyAsync(stage + piece(i * 4 + lane / 8, lane % 8), present ? sources[i] + group * GROUP_K : x, present);
            }
        }
        commitCopies();
    };
#pragma unroll
    for (int group = 0; group < STAGES - 1; group++) copyX(group);
    awaitCopies<STAGES - 2>();  // A lies in the first group
    __syncthreads();

    float total[RANK_BLOCKS][WARP_TILES][4] = {};
    const bool active = warpRow < item.rows;
    for (int group = 0; active && group < GROUPS; group++) {
        awaitCopies<STAGES - 2>();
        __syncwarp();
        copyX(group + STAGES - 1);
        const uint4* stage = stages + group % STAGES * STAGE;
        float d[RANK_BLOCKS][WARP_TILES][4] = {};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint4 values[WARP_TILES];
#pragma unroll
            for (int t = 0; t < WARP_TILES; t++) values[t] = stage[piece(t * TILE_ROWS + g, half * 4 + c)];
            const uint4* weights = shared + (group * 2 + half) * pieces + lane;
#pragma unroll
            for (int rb = 0; rb < RANK_BLOCKS; rb++) {
                if (rb >= blocks) break;
                const uint4 first = weights[rb * 2 * FRAGMENT], second = weights[(rb * 2 + 1) * FRAGMENT];
#pragma unroll
                for (int t = 0; t < WARP_TILES; t++) {
                    mma(d[rb][t], first, values[t].x, values[t].y);
                    mma(d[rb][t], second, values[t].z, values[t].w);
                }
            }
        }
#pragma unroll
        for (int rb = 0; rb < RANK_BLOCKS; rb++)
#pragma unroll
            for (int t = 0; t < WARP_TILES; t++)
#pragma unroll
                for (int i = 0; i < 4; i++) total[rb][t][i] += d[rb][t][i];
    }
    __syncthreads();  // A is no longer read
    float* sums = reinterpret_cast<float*>(shared);
#pragma unroll
    for (int rb = 0; rb < RANK_BLOCKS; rb++) {
#pragma unroll
        for (int t = 0; t < WARP_TILES; t++) {
            float* mine = sums + (warpRow + t * TILE_ROWS + 2 * c) * SUMS_STRIDE + rb * RANK_BLOCK + g;
            mine[0] = total[rb][t][0];
            mine[SUMS_STRIDE] = total[rb][t][1];
            mine[8] = total[rb][t][2];
            mine[SUMS_STRIDE + 8] = total[rb][t][3];
        }
    }
    clusterBarrier();
    const int split = blockIdx.x / clusterSize();
    float* target = v + (static_cast<long long>(split) * vRows + item.row) * vStride + block * RANK_BLOCK;
    sumOverCluster<RANK_BLOCKS * RANK_BLOCK>(sums, SUMS_STRIDE, item.rows, blocks * RANK_BLOCK, target, vStride);
    clusterBarrier();
}

// Grid (C * S, tiles, shares), clusters of C blocks along x, WEIGHTS + SHRINK_WARPS * STAGES * STAGE pieces of shared memory.
// planned: as in lora_decode.cu.
extern "C" __global__ void __launch_bounds__(SHRINK_THREADS, 2)
    lora_shrink_rows(const void* tiles, const void* names, int planned, const __nv_bfloat16* __restrict__ x, long long xStride,
                     const int* xRows, int hidden, float* v, int vStride, int vRows) {
    if (planned) awaitPreviousKernel();
    allowNextKernel();
    const LoraItem item = loadItem(tiles, names, blockIdx.y);
    if (item.rows == 0) {
        if (blockIdx.y == 0) awaitPreviousKernel();
        return;
    }
    for (int block = blockIdx.z * RANK_BLOCKS; block < item.rankBlocks; block += gridDim.z * RANK_BLOCKS)
        shrinkRows(item, block, min(RANK_BLOCKS, item.rankBlocks - block), x, xStride, xRows, hidden, v, vStride, vRows);
}

constexpr int EXPAND_WARPS = 4;  // one feature block each
constexpr int EXPAND_THREADS = EXPAND_WARPS * WARP;
constexpr int TILES = ROWS / TILE_ROWS;
constexpr int TILES_AHEAD = 4;  // of y on its way to the L2

// Grid (tiles, shares of all targets); a share is 4 feature blocks, and there are as many as that makes. Without add, y
// is written where a tile has the target, and nowhere else.
extern "C" __global__ void __launch_bounds__(EXPAND_THREADS, 4)
    lora_expand_rows(const void* tileRows, const LoraTarget t0, const LoraTarget t1, const LoraTarget t2, const float* v,
                     int vStride, int vRows, int splits, const int* yRows, const float* rowFactors, int add) {
    __shared__ uint2 fragments[TILES][RANK_BLOCKS][WARP];  // of v, as the lanes pass them to mma
    __shared__ int targets[ROWS];
    __shared__ float factors[ROWS];
    allowNextKernel();
    int share;
    const LoraTarget target = chooseTarget(t0, t1, t2, share);
    const LoraItem item = loadItem(tileRows, target.names, blockIdx.x);
    if (item.rows == 0) {
        if (blockIdx.x == 0) awaitPreviousKernel();
        return;
    }
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int rankBlocks = item.rankBlocks;
    const int block = share * EXPAND_WARPS + warp;
    const bool active = block * FEATURE_BLOCK < target.features;
    const uint4* source = active ? loadPiece(item.pieces + 2 + block) : nullptr;
    const float scale = __ldg(reinterpret_cast<const float*>(item.pieces));

    for (int i = threadIdx.x; i < item.rows; i += EXPAND_THREADS) {
        targets[i] = loadInt(yRows + item.row + i);
        factors[i] = rowFactors ? scale * loadFactor(rowFactors + item.row + i) : scale;
    }
    awaitPreviousKernel();

    const int tiles = (item.rows + TILE_ROWS - 1) / TILE_ROWS;
#pragma unroll 2
    for (int tile = warp; tile < tiles; tile += EXPAND_WARPS) {
        const int row = tile * TILE_ROWS + g;
        const float* values = v + static_cast<long long>(item.row + row) * vStride + item.vBlock * RANK_BLOCK + 4 * c;
        float4 sums[RANK_BLOCKS];  // all loads before the first use
#pragma unroll
        for (int rb = 0; rb < RANK_BLOCKS; rb++)
            sums[rb] = rb < rankBlocks && row < item.rows ? loadIntermediate(values + rb * RANK_BLOCK) : float4{};
        for (int s = 1; s < splits; s++) {
#pragma unroll
            for (int rb = 0; rb < RANK_BLOCKS; rb++) {
                if (rb >= rankBlocks || row >= item.rows) continue;
                addTo(sums[rb], loadIntermediate(values + s * static_cast<long long>(vRows) * vStride + rb * RANK_BLOCK));
            }
        }
#pragma unroll
        for (int rb = 0; rb < RANK_BLOCKS; rb++)
            fragments[tile][rb][lane] = uint2{packBf16(sums[rb].x, sums[rb].y), packBf16(sums[rb].z, sums[rb].w)};
    }
    // Only now: together with the sums above they would not fit the registers.
    uint4 weights[RANK_BLOCKS][4];
#pragma unroll
    for (int rb = 0; rb < RANK_BLOCKS; rb++)
#pragma unroll
        for (int f = 0; f < 4; f++)
            weights[rb][f] = active && rb < rankBlocks ? loadWeights(source + (rb * 4 + f) * FRAGMENT + lane) : uint4{};
    __syncthreads();

    const int feature = block * FEATURE_BLOCK + 8 * g;
    if (!active) return;
    const bool inside = feature < target.features;
    __nv_bfloat16* base = target.y + feature;
    auto locate = [&](int row) { return reinterpret_cast<uint4*>(base + targets[row] * target.stride); };
    auto loadOld = [&](int tile, uint4 (&old)[2]) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = tile * TILE_ROWS + 2 * c + half;
            old[half] = add && inside && row < item.rows ? *locate(row) : uint4{};
            if (add && inside && row + TILES_AHEAD * TILE_ROWS < item.rows)
                prefetchL2(locate(row + TILES_AHEAD * TILE_ROWS));
        }
    };
    uint4 next[2];
    loadOld(0, next);
    for (int tile = 0; tile < tiles; tile++) {
        const uint4 old[2] = {next[0], next[1]};
        loadOld(tile + 1, next);
        float d[4][4] = {};
#pragma unroll
        for (int rb = 0; rb < RANK_BLOCKS; rb++) {
            if (rb >= rankBlocks) break;
            const uint2 values = fragments[tile][rb][lane];
#pragma unroll
            for (int f = 0; f < 4; f++) mma(d[f], weights[rb][f], values.x, values.y);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = tile * TILE_ROWS + 2 * c + half;
            // Nothing here reads y again: it need not push x and the weights out of the L2.
            if (inside && row < item.rows) __stcs(locate(row), addScaled(old[half], factors[row], d, half));
        }
    }
}
