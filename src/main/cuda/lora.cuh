// What the LoRA kernels share: how adapters lie in memory, how work is described, and small wrappers
// of the instructions they use. docs/performance-cuda.md says why it has this shape.
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

#include <cuda_bf16.h>

#include <cstdint>

constexpr int WARP = 32;
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

// Weights are read once: keep them out of the L1.
__device__ __forceinline__ uint4 loadWeights(const uint4* source) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(source));
    return v;
}

// Written by the kernel before this one: must not move above the wait for it.
__device__ __forceinline__ float4 loadIntermediate(const float* source) {
    float4 v;
    asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "l"(source));
    return v;
}

// Brings a line to the L2, which is where other kernels' writes are seen: allowed before the wait for them.
__device__ __forceinline__ void prefetchL2(const void* address) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// d += weights (16 x 16) * columns (16 x 8)
__device__ __forceinline__ void mma(float (&d)[4], const uint4& weights, unsigned lo, unsigned hi) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(weights.x), "r"(weights.y), "r"(weights.z), "r"(weights.w), "r"(lo), "r"(hi));
}

__device__ __forceinline__ unsigned packBf16(float first, float second) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return reinterpret_cast<unsigned&>(pair);
}

__device__ __forceinline__ float2 unpackBf16(unsigned pair) {
    return __bfloat1622float2(reinterpret_cast<__nv_bfloat162&>(pair));
}

// Programmatic dependent launch (sm_90): the next kernel's blocks may start as soon as all of this one's have,
// and wait where they need its results. Nothing happens on older devices, or without the launch attribute.
__device__ __forceinline__ void allowNextKernel() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ void awaitPreviousKernel() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Clusters (sm_90); elsewhere a cluster is one block.
__device__ __forceinline__ unsigned clusterSize() {
#if __CUDA_ARCH__ >= 900
    unsigned n;
    asm volatile("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(n));
    return n;
#else
    return 1;
#endif
}

__device__ __forceinline__ unsigned clusterRank() {
#if __CUDA_ARCH__ >= 900
    unsigned n;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(n));
    return n;
#else
    return 0;
#endif
}

__device__ __forceinline__ void clusterBarrier() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
#endif
}

// Reads the same variable of another block of the cluster.
__device__ __forceinline__ float loadFromBlock(const float* shared, unsigned rank) {
#if __CUDA_ARCH__ >= 900
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    float value;
    asm volatile(
        "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %1, %2; ld.shared::cluster.f32 %0, [remote]; }"
        : "=f"(value)
        : "r"(address), "r"(rank)
        : "memory");
    return value;
#else
    return *shared;
#endif
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

__device__ __forceinline__ void addTo(float4& sum, const float4& more) {
    sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
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

// 16 bytes from global to shared memory without passing through registers; zeros if not present.
__device__ __forceinline__ void copyAsync(void* shared, const void* global, bool present) {
    const unsigned target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    const int bytes = present ? 16 : 0;
    asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(target), "l"(global), "r"(bytes));
}

__device__ __forceinline__ void commitCopies() { asm volatile("cp.async.commit_group;"); }

// Waits until at most PENDING of this thread's groups of copies are under way.
template <int PENDING>
__device__ __forceinline__ void awaitCopies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
