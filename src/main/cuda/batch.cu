// The batch of a recorded step: the host writes it to pinned memory, the recording's first kernel fetches it.
//
// Layout    int32; element 1 of the batch is the number of the step.
// Bytes     the batch, once over the bus: 34 KB for 64 sequences of up to 128 blocks.

#include "device.cuh"

// Grid (words / 256), 256 threads, a word of 16 bytes each. It allows no kernel to start before it has ended, and the next
// must not be launched to do so: kernels read the batch before they wait for the kernel before them. The last block to end
// tells the host that the memory may be written again.
//   arrived  counts blocks; 0 between launches
//   fetched  in pinned memory, becomes the number of the step
extern "C" __global__ void __launch_bounds__(256)
    fetch_batch(const uint4* from, uint4* to, int words, unsigned* arrived, unsigned* fetched) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < words) {
        to[i] = __ldcv(from + i);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        if (atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1) {
            unsigned step = __ldcv(reinterpret_cast<const unsigned*>(from) + 1);
            asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(fetched), "r"(step) : "memory");
        }
    }
}
