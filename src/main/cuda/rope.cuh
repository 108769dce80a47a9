// What is done to a head between its projection and attention, where D is a multiple of 16: some lanes of a warp share the head,
// each has 8 elements and the 8 that these turn with.

#pragma once

#include "device.cuh"

// The weights of a lane's elements; none are loaded if there are none.
struct Norm {
    const float* source = nullptr;
    float first[8], second[8];

    __device__ __forceinline__ void load(const float* weights, int i, int half) {
        if (weights == source) return;
        source = weights;
        if (weights == nullptr) return;
#pragma unroll
        for (int e = 0; e < 8; e += 4) {
            *reinterpret_cast<float4*>(first + e) = *reinterpret_cast<const float4*>(weights + i + e);
            *reinterpret_cast<float4*>(second + e) = *reinterpret_cast<const float4*>(weights + half + i + e);
        }
    }
};

// The angles of a lane's elements, times magnitude.
struct Angles {
    float cosine[8], sine[8];

    __device__ __forceinline__ void load(const double* turns, int position, int i, bool active, float magnitude) {
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const double turn = active ? position * turns[i + e] : 0;
            sincospif(2.0f * static_cast<float>(turn - rint(turn)), &sine[e], &cosine[e]);
            sine[e] *= magnitude, cosine[e] *= magnitude;
        }
    }
};

// Written by the kernel before this one: must not move above the wait for it.
__device__ __forceinline__ uint4 loadPieces(const __nv_bfloat16* source) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(source) : "memory");
    return v;
}

__device__ __forceinline__ void unpack(const uint4& v, float (&x)[8]) {
    const unsigned pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = unpackBf16(pairs[i]);
        x[2 * i] = pair.x, x[2 * i + 1] = pair.y;
    }
}

__device__ __forceinline__ uint4 pack(const float (&x)[8]) {
    return uint4{packBf16(x[0], x[1]), packBf16(x[2], x[3]), packBf16(x[4], x[5]), packBf16(x[6], x[7])};
}

// Bounds, norms and turns a lane's elements. All lanes of the warp call it, LANES of them per head; normed: any of their
// heads may have weights.
template <int LANES>
__device__ __forceinline__ void prepareHead(uint4& first, uint4& second, float bound, bool normed, const Norm& norm,
                                            float eps, int D, bool turned, const Angles& angles) {
    float a[8], b[8];
    unpack(first, a), unpack(second, b);
    float squares = 0;
#pragma unroll
    for (int e = 0; e < 8; e++) {
        if (bound > 0) a[e] = fminf(fmaxf(a[e], -bound), bound), b[e] = fminf(fmaxf(b[e], -bound), bound);
        squares += a[e] * a[e] + b[e] * b[e];
    }
    if (normed) {
#pragma unroll
        for (int n = LANES / 2; n > 0; n /= 2) squares += __shfl_xor_sync(~0u, squares, n);
        if (norm.source != nullptr) {
            const float factor = rsqrtf(squares / D + eps);
#pragma unroll
            for (int e = 0; e < 8; e++) a[e] *= factor * norm.first[e], b[e] *= factor * norm.second[e];
        }
    }
    if (turned) {
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const float x = a[e], y = b[e];
            a[e] = x * angles.cosine[e] - y * angles.sine[e];
            b[e] = y * angles.cosine[e] + x * angles.sine[e];
        }
    }
    first = pack(a), second = pack(b);
}
