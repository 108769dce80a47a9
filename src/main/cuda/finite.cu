// Looks for NaN and infinities in weights after they have been copied to the device.
//
// Shapes    data [elements] bf16; first: one counter, all ones before the launch.
// Layout    elements is a multiple of 8, data is aligned to 16 bytes. Padding counts, and is finite.
// Limits    none: indices have 64 bits.
// Bytes     every element once.
// Result    the smallest index of an element that is not finite; first stays as it is if all are. An exponent of ones
//           alone means either.

#include "device.cuh"

constexpr int FINITE_THREADS = 512;
constexpr unsigned EXPONENT = 0x7f80;
constexpr int PIECE = 8;     // elements of a load
constexpr int AT_ONCE = 4;   // loads under way

__device__ __forceinline__ bool finite(unsigned pair) {
    return (pair & EXPONENT) != EXPONENT && (pair & (EXPONENT << 16)) != EXPONENT << 16;
}

__device__ void tell(const uint4& piece, long long index, unsigned long long* first) {
    const unsigned pairs[4] = {piece.x, piece.y, piece.z, piece.w};
    for (int i = 0; i < PIECE; i++) {
        if ((pairs[i / 2] >> (16 * (i % 2)) & EXPONENT) == EXPONENT) {
            atomicMin(first, static_cast<unsigned long long>(index * PIECE + i));
            return;
        }
    }
}

// Any grid of FINITE_THREADS threads.
extern "C" __global__ void __launch_bounds__(FINITE_THREADS)
    first_not_finite(const uint4* data, long long elements, unsigned long long* first) {
    allowNextKernel();
    awaitPreviousKernel();
    const long long pieces = elements / PIECE;
    const long long threads = static_cast<long long>(gridDim.x) * FINITE_THREADS;
    for (long long base = static_cast<long long>(blockIdx.x) * FINITE_THREADS + threadIdx.x; base < pieces;
         base += AT_ONCE * threads) {
        uint4 loaded[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const long long at = base + i * threads;
            loaded[i] = at < pieces ? data[at] : make_uint4(0, 0, 0, 0);
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const uint4& v = loaded[i];
            if (!(finite(v.x) && finite(v.y) && finite(v.z) && finite(v.w))) tell(v, base + i * threads, first);
        }
    }
}
