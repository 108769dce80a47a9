// What the attention kernels of few and of many rows share.

#pragma once

#include "device.cuh"

constexpr float LOG2E = 1.4426950408889634f;

// Arguments of all attention kernels; attention_decode.cu says what they are.
#define ATTENTION_PARAMETERS                                                                                          \
    const __nv_bfloat16 *q, long long qStride, const int *positions, const int *tables, int tableStride, int heads,   \
        int kvHeads, int D, const __nv_bfloat16 *cache, int blockSize, int window, float scale, const float *sinks,   \
        __nv_bfloat16 *out, long long outStride

// 2^x; 0 for -infinity.
__device__ __forceinline__ float power2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// What a row's sum of weighted values is multiplied with: its sinks' weight is in the sum. Maxima in units of log2.
__device__ __forceinline__ float normaliser(float most, float sum, const float* sinks, int head) {
    if (sinks == nullptr) return sum > 0 ? 1 / sum : 0;
    const float sink = sinks[head] * LOG2E, top = fmaxf(most, sink);
    const float part = most == -INFINITY ? 0 : power2(most - top);
    return part / (sum * part + power2(sink - top));
}
