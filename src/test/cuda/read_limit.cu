// What reading alone takes: the bound that read_limit.py holds beside the LoRA kernels.
//
// read_plain_U  a block of T threads reads units of T * U * 16 bytes, every gridDim.x-th, U loads of 16 bytes per thread on their way
//               all the time; the first ones before the wait for the previous kernel. Then it writes its share of y. Pages of
//               64 KiB, PAGES in all, are read in their order (scatter = 1) or, with another odd number, in any other.
// read_bulk     the same by bulk copies to shared memory, `stages` of `bytes` on their way per block.
// Nothing is computed but a sum that is not written.

#include "../../main/cuda/device.cuh"

constexpr int PAGE = 1 << 12;   // in 16 bytes
constexpr int PAGES = 1 << 15;

template <int U>
__device__ void readPlain(const uint4* memory, long long first, int scatter, int units, uint4* y, int yWords, unsigned* sink) {
    allowNextKernel();
    uint4 w[U];
    int unit = blockIdx.x;
    auto at = [&](int u) {
        const long long i = first + (static_cast<long long>(unit) * U + u) * blockDim.x + threadIdx.x;
        const int page = static_cast<int>(i / PAGE) * scatter & PAGES - 1;
        return memory + static_cast<long long>(page) * PAGE + i % PAGE;
    };
    if (unit < units) {
#pragma unroll
        for (int u = 0; u < U; u++) w[u] = loadWeights(at(u));
    }
    awaitPreviousKernel();
    unsigned sum = 0;
    for (; unit < units;) {
        unit += gridDim.x;
        const bool more = unit < units;
#pragma unroll
        for (int u = 0; u < U; u++) {
            sum ^= w[u].x ^ w[u].y ^ w[u].z ^ w[u].w;
            if (more) w[u] = loadWeights(at(u));
        }
    }
    if (sum == 0x12345678) *sink = sum;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < yWords; i += gridDim.x * blockDim.x) y[i] = uint4{sum, sum, sum, sum};
}

#define READ_PLAIN(U, THREADS, BLOCKS)                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                         \
        read_plain_##U(const uint4* memory, long long first, int scatter, int units, uint4* y, int yWords,  \
                       unsigned* sink) {                                                                    \
        readPlain<U>(memory, first, scatter, units, y, yWords, sink);                                       \
    }
READ_PLAIN(2, 512, 4)
READ_PLAIN(4, 512, 3)
READ_PLAIN(8, 512, 2)
READ_PLAIN(16, 256, 2)

extern "C" __global__ void read_bulk(const char* source, int units, int stages, int bytes, unsigned* sink) {
    allowNextKernel();
#if __CUDA_ARCH__ >= 900
    extern __shared__ __align__(128) char slots[];
    __shared__ __align__(8) unsigned long long full[16];
    if (threadIdx.x == 0) {
        auto fetch = [&](int slot, int unit) {
            const unsigned barrier = sharedAddress(&full[slot]);
            asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
            asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                             sharedAddress(slots + slot * bytes)),
                         "l"(source + static_cast<long long>(unit) * bytes), "r"(bytes), "r"(barrier)
                         : "memory");
        };
        for (int s = 0; s < stages; s++) asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(sharedAddress(&full[s])));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        int ahead = blockIdx.x;
        for (int s = 0; s < stages && ahead < units; s++, ahead += gridDim.x) fetch(s, ahead);
        awaitPreviousKernel();
        int slot = 0, phase = 0;
        for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
            unsigned done = 0;
            while (!done)
                asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                             : "=r"(done)
                             : "r"(sharedAddress(&full[slot])), "r"(phase)
                             : "memory");
            if (ahead < units) fetch(slot, ahead), ahead += gridDim.x;
            if (++slot == stages) slot = 0, phase ^= 1;
        }
        if (units < 0) *sink = slots[0];
    }
#endif
    awaitPreviousKernel();
}
