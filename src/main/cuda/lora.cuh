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
//   A (shrink) [R, H], all targets of a site stacked in R: [H / 32][R / 16][2][32 lanes][8];
//     fragment j of a pair of fragments holds k = 8 c + 4 j + {0, 1} (lo) and + {2, 3} (hi) of its 32,
//     so that a lane's activations are 16 contiguous bytes.
//   B (expand) [N, R], one target: [N / 64][R / 16][4][32 lanes][8]; row g (or g + 8) of fragment f is
//     feature 8 g + 2 f (or + 1) of its 64, so that a lane ends up with 8 contiguous features of a row of y;
//     k = 4 c + {0, 1} (lo) and + {2, 3} (hi).
//
// Work
//   Rows are sorted by adapter (or by adapter and expert) outside of the kernels. An item is what one block of threads
//   (shrink: one cluster) computes: some rows, all of one adapter, and some ranks or features. Items lie in device memory, so that
//   a captured graph replays with new ones, and are complete: a block knows its weights after one load, since the
//   time before its first bytes flow is what small batches consist of. How the work is cut into items never changes
//   the order in which a value is summed up.

#pragma once

#include "device.cuh"

constexpr int RANK_BLOCK = 16;     // ranks are multiples of this
constexpr int TILE_ROWS = 8;       // rows of x that one mma takes
constexpr int FEATURE_BLOCK = 64;  // features of y that one warp computes at a time
constexpr int FRAGMENT = 32;       // a fragment in units of 16 bytes, one per lane

// 32 bytes, 28 of them used.
struct LoraItem {
    const uint4* weights;       // the item's first rank block (shrink) or feature block (expand) in packed A or B
    int row;                    // first sorted row
    unsigned short rows;        // 0: nothing to do, so that a captured grid may be larger than the work
    unsigned short blocks;      // rank blocks (shrink) or feature blocks (expand) of the item
    unsigned short rankBlocks;  // shrink: of all of A, the distance between its fragments; expand: of B, may be 0
    unsigned short vBlock;      // where the item's ranks begin in a row of v, in rank blocks
    int yOffset;                // expand: where the item's features begin in a row of y
    int features;               // expand: how many of them there are (the last block may be partly padding)
};

__device__ __forceinline__ LoraItem loadItem(const LoraItem* items, int index) {
    union {
        int4 words[2];
        LoraItem item;
    } u;
    const int4* source = reinterpret_cast<const int4*>(items + index);
    u.words[0] = __ldg(source);
    u.words[1] = __ldg(source + 1);
    return u.item;
}

constexpr int MAX_CLUSTER = 8;

// Adds up sums[row][rank] of the cluster's blocks, in their order, and writes v for the item's rows and ranks; the
// blocks share the work. Between two cluster barriers. COLUMNS: ranks of the largest item, a power of 2.
template <int COLUMNS>
__device__ __forceinline__ void sumOverCluster(const float* sums, int sumsStride, const LoraItem& item, float* v,
                                               int vStride, int vRows) {
    const int blocks = clusterSize();
    const int split = blockIdx.x / blocks;
    float* target = v + (static_cast<long long>(split) * vRows + item.row) * vStride + item.vBlock * RANK_BLOCK;
    for (int i = clusterRank() * blockDim.x + threadIdx.x; i < item.rows * COLUMNS; i += blocks * blockDim.x) {
        const int r = i / COLUMNS, rank = i % COLUMNS;
        if (rank >= item.blocks * RANK_BLOCK) continue;
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

// Eight features of y: old + factor * d, from the four fragments' sums of one row (half: the first or second of the
// two rows that a lane holds).
__device__ __forceinline__ uint4 addScaled(const uint4& old, float factor, const float (&d)[4][4], int half) {
    const unsigned olds[4] = {old.x, old.y, old.z, old.w};
    unsigned news[4];
#pragma unroll
    for (int f = 0; f < 4; f++) {
        const float2 base = unpackBf16(olds[f]);
        news[f] = packBf16(base.x + factor * d[f][half], base.y + factor * d[f][half + 2]);
    }
    return uint4{news[0], news[1], news[2], news[3]};
}
