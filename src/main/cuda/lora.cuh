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
//   Rows are sorted by adapter (or by adapter and expert) outside of the kernels. A segment is a run of
//   sorted rows that share one weight matrix, an item the share of a segment that one block of threads
//   computes. Both lie in device memory, so that a captured graph replays with new ones. How a segment is
//   cut into items never changes the order in which a value is summed up.

#pragma once

#include <cuda_bf16.h>

#include <cstdint>

constexpr int WARP = 32;
constexpr int RANK_BLOCK = 16;     // ranks are multiples of this
constexpr int TILE_ROWS = 8;       // rows of x that one mma takes
constexpr int FEATURE_BLOCK = 64;  // features of y that one warp computes at a time
constexpr int FRAGMENT = 32;       // a fragment in units of 16 bytes, one per lane

// One weight matrix and the sorted rows that go through it. 32 bytes.
struct LoraSegment {
    const uint4* weights;  // packed A of all targets, or packed B of one
    int rowBegin;          // first sorted row
    int rowCount;
    int rank;        // A: sum of the targets' padded ranks; B: the target's padded rank, may be 0
    int rankOffset;  // B: where the target's ranks begin in a row of v
    int yOffset;     // B: where the target's features begin in a row of y
    int features;    // B: the target's features
};

// 16 bytes.
struct LoraItem {
    int segment;
    unsigned short block;   // first rank block (shrink) or feature block (expand)
    unsigned short blocks;  // how many of them
    int row;                // first row, counted from the segment's
    int rows;
};

__device__ __forceinline__ LoraSegment loadSegment(const LoraSegment* segments, int index) {
    union {
        int4 words[2];
        LoraSegment segment;
    } u;
    const int4* source = reinterpret_cast<const int4*>(segments + index);
    u.words[0] = __ldg(source);
    u.words[1] = __ldg(source + 1);
    return u.segment;
}

__device__ __forceinline__ LoraItem loadItem(const LoraItem* items, int index) {
    union {
        int4 words;
        LoraItem item;
    } u;
    u.words = __ldg(reinterpret_cast<const int4*>(items + index));
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
                 : "l"(source)
                 : "memory");
    return v;
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
