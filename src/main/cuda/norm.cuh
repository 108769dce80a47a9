// Sums of a norm over a row that a block, or a cluster, holds in registers: 8 values a thread, in the order of the threads.

#pragma once

#include "vector.cuh"

constexpr int NORM_WARPS = 16;  // of a row, at most
constexpr int NORM_THREADS = NORM_WARPS * WARP;

__device__ __forceinline__ float sumOfWarp(float v) {
#pragma unroll
    for (int distance = WARP / 2; distance; distance /= 2) v += __shfl_xor_sync(~0u, v, distance);
    return v;
}

// sums: 16-byte aligned; 0 for warps that there are not, so that their number does not change the order.
__device__ __forceinline__ float sumOfWarps(const float (&sums)[NORM_WARPS]) {
    const float4* all = reinterpret_cast<const float4*>(sums);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < NORM_WARPS / 4; i++) sum += (all[i].x + all[i].y) + (all[i].z + all[i].w);
    return sum;
}

__device__ __forceinline__ float squaresOf(const float (&values)[VECTOR]) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < VECTOR; i++) squares += values[i] * values[i];
    return squares;
}

// values = those of y's type that hold y + x: what the norm is of.
__device__ __forceinline__ void addRounded(const float (&x)[VECTOR], bool yWide, float (&values)[VECTOR]) {
#pragma unroll
    for (int i = 0; i < VECTOR; i++) values[i] += x[i];
    if (!yWide) unpack(pack(values), values);
}
