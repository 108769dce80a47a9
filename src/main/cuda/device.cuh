// Small wrappers of the instructions that several kernels use.

#pragma once

#include <cuda_bf16.h>

#include <cstdint>

constexpr int WARP = 32;

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

// The barrier in two halves: what a block does between them need not wait for the others. Only one can be under way.
__device__ __forceinline__ void arriveAtCluster() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void awaitCluster() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
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

// Writes the same variable of another block of the cluster; it must have begun.
__device__ __forceinline__ void storeToBlock(float* shared, unsigned rank, float value) {
#if __CUDA_ARCH__ >= 900
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile(
        "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %0, %1; st.shared::cluster.f32 [remote], %2; }" ::"r"(
            address),
        "r"(rank), "f"(value)
        : "memory");
#else
    *shared = value;
#endif
}

__device__ __forceinline__ void addTo(float4& sum, const float4& more) {
    sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
}

__device__ __forceinline__ unsigned sharedAddress(const void* shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
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
