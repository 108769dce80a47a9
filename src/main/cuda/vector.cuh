// Eight neighbouring values of a row, whatever the row holds: bf16 (16 bytes) or float32 (32 bytes).

#pragma once

#include "device.cuh"

constexpr int VECTOR = 8;  // values; rows begin at multiples of it and are padded to multiples of it with zeros

__host__ __device__ __forceinline__ int vectors(int cols) { return (cols + VECTOR - 1) / VECTOR; }

// What a thread works on when a grid's threads are dealt out over rows of perRow pieces.
struct Place {
    int row, piece;
    bool present;
};

__device__ __forceinline__ Place place(int rows, int perRow) {
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned row = index / perRow;
    return {static_cast<int>(row), static_cast<int>(index - row * perRow), row < static_cast<unsigned>(rows)};
}

// A row of a matrix of either type.
__device__ __forceinline__ const char* rowOf(const void* matrix, long long stride, int row, bool wide) {
    return static_cast<const char*>(matrix) + row * stride * (wide ? 4 : 2);
}

__device__ __forceinline__ char* rowOf(void* matrix, long long stride, int row, bool wide) {
    return static_cast<char*>(matrix) + row * stride * (wide ? 4 : 2);
}

__device__ __forceinline__ void unpack(const uint4& packed, float (&values)[VECTOR]) {
    const unsigned pairs[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = unpackBf16(pairs[i]);
        values[2 * i] = pair.x, values[2 * i + 1] = pair.y;
    }
}

__device__ __forceinline__ uint4 pack(const float (&values)[VECTOR]) {
    return uint4{packBf16(values[0], values[1]), packBf16(values[2], values[3]), packBf16(values[4], values[5]),
                 packBf16(values[6], values[7])};
}

__device__ __forceinline__ void loadVector(const char* row, int vector, bool wide, float (&values)[VECTOR]) {
    if (wide) {
        const float4* source = reinterpret_cast<const float4*>(row) + 2 * vector;
        const float4 a = source[0], b = source[1];
        values[0] = a.x, values[1] = a.y, values[2] = a.z, values[3] = a.w;
        values[4] = b.x, values[5] = b.y, values[6] = b.z, values[7] = b.w;
    } else {
        unpack(reinterpret_cast<const uint4*>(row)[vector], values);
    }
}

__device__ __forceinline__ void storeVector(char* row, int vector, bool wide, const float (&values)[VECTOR]) {
    if (wide) {
        float4* target = reinterpret_cast<float4*>(row) + 2 * vector;
        target[0] = float4{values[0], values[1], values[2], values[3]};
        target[1] = float4{values[4], values[5], values[6], values[7]};
    } else {
        reinterpret_cast<uint4*>(row)[vector] = pack(values);
    }
}

// Zeros beyond the row's end: padding must stay zero even where a row holds infinities.
__device__ __forceinline__ void maskTail(int vector, int cols, float (&values)[VECTOR]) {
    if ((vector + 1) * VECTOR > cols) {
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            if (vector * VECTOR + i >= cols) values[i] = 0;
    }
}
