// Hopper's asynchronous instructions (sm_90a): barriers in shared memory, bulk copies of tensor tiles, and products of
// a warp group's 64 rows. Only for code guarded by __CUDA_ARCH_FEAT_SM90_ALL.

#pragma once

#include "device.cuh"

constexpr int WARP_GROUP = 128;

// What cuTensorMapEncodeTiled writes: passed by value as a __grid_constant__ parameter.
struct alignas(128) TensorMap {
    uint64_t opaque[16];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// A barrier completes its phase after `arrivals` arrivals and all bytes that were announced.
__device__ __forceinline__ void initialiseBarrier(uint64_t* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(barrier)), "r"(arrivals) : "memory");
}

// Makes initialised barriers visible to bulk copies; a __syncthreads() must follow.
__device__ __forceinline__ void publishBarriers() {
    asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void arrive(uint64_t* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(barrier)) : "memory");
}

// Arrives, and announces bytes that bulk copies will bring.
__device__ __forceinline__ void arriveExpecting(uint64_t* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(barrier)), "r"(bytes)
                 : "memory");
}

// Arrives once this thread's copyAsync()s so far are complete.
__device__ __forceinline__ void arriveAfterCopies(uint64_t* barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(sharedAddress(barrier)) : "memory");
}

// Waits for the end of a phase; `parity` is that of the phase's number. The phase before the first counts as ended.
__device__ __forceinline__ void awaitBarrier(uint64_t* barrier, unsigned parity) {
    unsigned done;
    do {
        asm volatile(
            "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
            : "=r"(done)
            : "r"(sharedAddress(barrier)), "r"(parity)
            : "memory");
    } while (!done);
}

// Ordinary writes to shared memory that this thread knows of become visible to wgmma.
__device__ __forceinline__ void publishToAsyncProxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void prefetchTensorMap(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Copies the box that begins at (x0, x1[, x2]), innermost dimension first; elements beyond the tensor are zeros.
__device__ __forceinline__ void copyTile(void* shared, const TensorMap* map, int x0, int x1, uint64_t* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
            sharedAddress(shared)),
        "l"(map), "r"(x0), "r"(x1), "r"(sharedAddress(barrier))
        : "memory");
}

__device__ __forceinline__ void copyTile(void* shared, const TensorMap* map, int x0, int x1, int x2,
                                         uint64_t* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], "
        "[%5];" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(x0), "r"(x1), "r"(x2), "r"(sharedAddress(barrier))
        : "memory");
}

// Describes rows of 128 bytes whose 16-byte chunks are permuted as by tensor maps with a swizzle of 128 bytes: chunk c
// of row r lies at c ^ (r % 8). The first row must be at a multiple of 1024 bytes, plus the bytes of k to skip.
__device__ __forceinline__ uint64_t describeRows(const void* shared) {
    constexpr uint64_t SWIZZLE_128 = 1ull << 62;
    constexpr uint64_t EIGHT_ROWS = 1024 >> 4;  // distance between groups of 8 rows
    return SWIZZLE_128 | EIGHT_ROWS << 32 | 1ull << 16 | (sharedAddress(shared) & 0x3ffff) >> 4;
}

// Between other accesses to the registers of sums and the products that add to them.
__device__ __forceinline__ void beginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void commitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most PENDING groups of products are under way.
template <int PENDING>
__device__ __forceinline__ void awaitProducts() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Registers per thread of the calling warp group; the block's total must stay within what it was launched with.
template <int COUNT>
__device__ __forceinline__ void giveUpRegisters() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT>
__device__ __forceinline__ void takeRegisters() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

#define SUMS_4(i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4((i) + 4), SUMS_4((i) + 8), SUMS_4((i) + 12)

// Thread 32 w + 4 g + c of the warp group holds, for each 8 columns 8 j, d[4 j .. 4 j + 3]: columns 2 c and 2 c + 1 of
// rows 16 w + g and then of 16 w + g + 8.

// d (64 x 128) = x (64 x 16) * weights (128 x 16)^T, plus d if `accumulate`.
__device__ __forceinline__ void multiply(float (&d)[64], uint64_t x, uint64_t weights, int accumulate) {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
        "}, %64, %65, p, 1, 1, 0, 0; }"
        : SUMS_16(0), SUMS_16(16), SUMS_16(32), SUMS_16(48)
        : "l"(x), "l"(weights), "r"(accumulate));
}

// d (64 x 256) = x (64 x 16) * weights (256 x 16)^T, plus d if `accumulate`.
__device__ __forceinline__ void multiply(float (&d)[128], uint64_t x, uint64_t weights, int accumulate) {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
        "}, %128, %129, p, 1, 1, 0, 0; }"
        : SUMS_16(0), SUMS_16(16), SUMS_16(32), SUMS_16(48), SUMS_16(64), SUMS_16(80),
          SUMS_16(96), SUMS_16(112)
        : "l"(x), "l"(weights), "r"(accumulate));
}

#undef SUMS_16
#undef SUMS_4

#endif
