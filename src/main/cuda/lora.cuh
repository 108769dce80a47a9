// What the LoRA kernels share: how adapters lie in memory and how work is described.
// docs/performance-cuda.md says why it has this shape.
//
// Adapter memory
//   Weights are packed once, when an adapter is loaded, in the order in which the lanes of a warp feed
//   them to mma.m16n8k16: every load is 512 contiguous bytes per warp and needs neither shared memory
//   nor shuffles on its way to the tensor cores. Ranks are padded to multiples of 16 with zeros.
//
//   A fragment is 16 x 16 values: lane l = 4 g + c holds 8 bf16 (16 bytes) in the order
//     (row g, lo) (row g + 8, lo) (row g, hi) (row g + 8, hi), lo and hi being two values of the
//     reduced dimension each.
//   A (shrink) [R, H], all targets of a site stacked in R, is cut into pieces of 16 ranks and 512 reduced values
//     (the last may have fewer): [512 / 32][2][32 lanes][8]; fragment j of a pair of fragments holds
//     k = 8 c + 4 j + {0, 1} (lo) and + {2, 3} (hi) of its 32, so that a lane's activations are 16 contiguous bytes.
//   B (expand) [N, R], one target, is cut into pieces of 64 features: [R / 16][4][32 lanes][8]; row g (or g + 8)
//     of fragment f is feature 8 g + 2 f (or + 1) of its 64, so that a lane ends up with 8 contiguous features of a
//     row of y; k = 4 c + {0, 1} (lo) and + {2, 3} (hi).
//
//   Pieces lie anywhere, so that adapters can live in pages. Tables in device memory, 16-byte aligned, say where:
//     A: the address of each piece, [R / 16][ceil(H / 512)]
//     B: 16 bytes whose first 4 are the target's scale (float32), then the address of each piece, [ceil(N / 64)]
//   A table is named by its address, with the number of rank blocks in bits 48 to 55 and, for B, the rank block of
//   A at which the target's ranks begin in bits 56 to 63; 0 for none. So a block of threads that knows the name needs
//   one load to know its pieces, and the time before its first bytes flow is what small batches consist of.
//
// Work
//   Rows are sorted by adapter (or by adapter and expert). A tile is some rows of one adapter: (first sorted row, number of
//   rows) as two int32, and the names of its tables. Tiles lie in device memory, so that a captured graph replays
//   with other ones; those with 0 rows are nothing to do, so that a grid may be larger than the work. Ranks or features
//   of a tile are shared by `shares` blocks (shrink: clusters) of threads, whatever its rank. How the work is cut never
//   changes the order in which a value is summed up.

#pragma once

#include "device.cuh"

constexpr int RANK_BLOCK = 16;     // ranks are multiples of this
constexpr int TILE_ROWS = 8;       // rows of x that one mma takes
constexpr int FEATURE_BLOCK = 64;  // features of y that one warp computes at a time
constexpr int FRAGMENT = 32;       // a fragment in units of 16 bytes, one per lane
constexpr int CHUNK = 512;         // reduced values of a piece of A

// What a block of threads works on.
struct LoraItem {
    int row;   // first sorted row
    int rows;  // 0: nothing to do
    const uint4* const* pieces;
    int rankBlocks;  // in all
    int vBlock;      // where the target's ranks begin in a row of v, in rank blocks
};

// Written by the kernel before the previous one, which may have been under way when this one was launched: neither
// from the L1, nor before it is certain that it is there.
__device__ __forceinline__ unsigned long long loadWord(const void* source) {
    unsigned long long v;
    asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(v) : "l"(source) : "memory");
    return v;
}

__device__ __forceinline__ int loadInt(const int* source) {
    int v;
    asm volatile("ld.global.cg.s32 %0, [%1];" : "=r"(v) : "l"(source) : "memory");
    return v;
}

__device__ __forceinline__ float loadFactor(const float* source) {
    float v;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(source) : "memory");
    return v;
}

// x: written by the previous kernel, so not above the wait for it.
__device__ __forceinline__ uint4 loadInput(const uint4* source) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(source)
                 : "memory");
    return v;
}

// An entry of a table.
__device__ __forceinline__ const uint4* loadPiece(const uint4* const* entry) {
    return reinterpret_cast<const uint4*>(__ldg(reinterpret_cast<const unsigned long long*>(entry)));
}

__device__ __forceinline__ LoraItem loadItem(const void* tiles, const void* names, int tile) {
    const unsigned long long rows = loadWord(static_cast<const unsigned long long*>(tiles) + tile);
    const unsigned long long name = loadWord(static_cast<const unsigned long long*>(names) + tile);
    const char* table = reinterpret_cast<const char*>(name & 0xFFFFFFFFFFFFull);
    LoraItem item;
    item.row = static_cast<int>(rows);
    item.rows = name == 0 ? 0 : static_cast<int>(rows >> 32);
    item.pieces = reinterpret_cast<const uint4* const*>(table);
    item.rankBlocks = static_cast<int>(name >> 48 & 0xFF);
    item.vBlock = static_cast<int>(name >> 56);
    return item;
}

constexpr int MAX_CLUSTER = 8;

// Adds up sums[row][rank] of the cluster's blocks, in their order, and writes v for `rows` rows and `ranks` ranks; the
// blocks share the work. target: of the first row and rank. turn: which block begins, since few rows are the work of one.
// Between two cluster barriers. COLUMNS: most ranks, a power of 2.
template <int COLUMNS>
__device__ __forceinline__ void sumOverCluster(const float* sums, int sumsStride, int rows, int ranks, float* target,
                                               int vStride, int turn = 0) {
    const int blocks = clusterSize();
    const int self = (clusterRank() + turn) % blocks;
    for (int i = self * blockDim.x + threadIdx.x; i < rows * COLUMNS; i += blocks * blockDim.x) {
        const int r = i / COLUMNS, rank = i % COLUMNS;
        if (rank >= ranks) continue;
        float values[MAX_CLUSTER];  // all loads before the first sum: each takes long
#pragma unroll
        for (int b = 0; b < MAX_CLUSTER; b++)
            values[b] = b < blocks ? loadFromBlock(sums + r * sumsStride + rank, b) : 0.0f;
        float sum = 0;
#pragma unroll
        for (int b = 0; b < MAX_CLUSTER; b++) sum += values[b];
        target[static_cast<long long>(r) * vStride + rank] = sum;
    }
}

// Four values of v, added up over the clusters that worked on them, in their order.
__device__ __forceinline__ float4 sumOverSplits(const float* source, long long stride, int splits) {
    constexpr int AHEAD = 4;
    float4 sum = loadIntermediate(source);
    for (int first = 1; first < splits; first += AHEAD) {
        float4 more[AHEAD];
#pragma unroll
        for (int s = 0; s < AHEAD; s++)
            more[s] = first + s < splits ? loadIntermediate(source + (first + s) * stride) : float4{};
#pragma unroll
        for (int s = 0; s < AHEAD; s++) addTo(sum, more[s]);
    }
    return sum;
}

// One of up to three targets that share x.
struct LoraTarget {
    const void* names;  // of B, per tile
    __nv_bfloat16* y;
    long long stride;
    int features;  // of y; the last feature block may be partly padding
    int shares;    // blocks of threads per tile
};

// The target that blockIdx.y is for, and its share of it.
__device__ __forceinline__ LoraTarget chooseTarget(const LoraTarget& t0, const LoraTarget& t1, const LoraTarget& t2, int& share) {
    share = blockIdx.y;
    if (share < t0.shares) return t0;
    share -= t0.shares;
    if (share < t1.shares) return t1;
    share -= t1.shares;
    return t2;
}

// Eight features of y: old + factor * d, from the four fragments' sums of one row (half: the first or second of the
// two rows that a lane holds). The product is rounded before it is added, so that adding it to zeros and adding the result later
// gives the same bits.
__device__ __forceinline__ uint4 addScaled(const uint4& old, float factor, const float (&d)[4][4], int half) {
    const unsigned olds[4] = {old.x, old.y, old.z, old.w};
    unsigned news[4];
#pragma unroll
    for (int f = 0; f < 4; f++) {
        const float2 base = unpackBf16(olds[f]);
        const float2 delta = unpackBf16(packBf16(factor * d[f][half], factor * d[f][half + 2]));
        news[f] = packBf16(base.x + delta.x, base.y + delta.y);
    }
    return uint4{news[0], news[1], news[2], news[3]};
}
