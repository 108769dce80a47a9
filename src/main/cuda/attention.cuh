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

// Four 8 x 8 matrices, whose rows the lanes' addresses name.
__device__ __forceinline__ uint4 loadMatrices(const void* row) {
    uint4 m;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.x), "=r"(m.y), "=r"(m.z), "=r"(m.w)
                 : "r"(sharedAddress(row)) : "memory");
    return m;
}

__device__ __forceinline__ uint4 loadTransposed(const void* row) {
    uint4 m;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.x), "=r"(m.y), "=r"(m.z), "=r"(m.w)
                 : "r"(sharedAddress(row)) : "memory");
    return m;
}

// Rows of 64 * GROUPS elements in shared memory.
template <int GROUPS>
struct Panel {
    static constexpr int PIECES = 8 * GROUPS;  // of 8 elements

    template <typename Piece>
    __device__ __forceinline__ static Piece* at(Piece* panel, int row, int piece) {
        return panel + row * PIECES + (piece ^ (row & 7));
    }
};

// A warp's attention of 16 rows to tiles of KEYS keys and values in shared memory, GROUPS groups of 64 elements of a head.
template <int GROUPS, int KEYS, bool KEEPS_Q>
struct WarpAttention {
    using Rows = Panel<GROUPS>;

    uint4 q[KEEPS_Q ? 4 * GROUPS : 1];
    float o[8 * GROUPS][4] = {};
    float most[2] = {-INFINITY, -INFINITY};  // of rows g and g + 8, not scaled
    float sum[2] = {};                       // this lane's part
    int position[2];                         // -1: no such row

    // The rows' queries to registers.
    __device__ __forceinline__ void keep(const uint4* queries) {
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int k = 0; k < 4 * GROUPS; k++)
            q[KEEPS_Q ? k : 0] = loadMatrices(Rows::at(queries, lane % 16, 2 * k + lane / 16));
    }

    // Scores of the tile's keys.
    __device__ __forceinline__ void score(const uint4* keys, const uint4* queries, float (&s)[KEYS / 8][4]) const {
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int k = 0; k < 4 * GROUPS; k++) {
            const uint4 a = KEEPS_Q ? q[KEEPS_Q ? k : 0]
                                    : loadMatrices(Rows::at(queries, lane % 16, 2 * k + lane / 16));
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                const uint4 b = loadMatrices(Rows::at(keys, 16 * n + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
                mma(s[2 * n], a, b.x, b.y);
                mma(s[2 * n + 1], a, b.z, b.w);
            }
        }
    }

    // Drops keys that the rows do not see.
    __device__ __forceinline__ void mask(float (&s)[KEYS / 8][4], int key0, int window) const {
        const int c = threadIdx.x % 4;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int key = key0 + 8 * n + 2 * c + e % 2, p = position[e / 2];
                if (key > p || (window != 0 && key <= p - window)) s[n][e] = -INFINITY;
            }
    }

    // Scores become weights relative to the rows' maxima so far; scale in units of log2.
    __device__ __forceinline__ void softmax(float (&s)[KEYS / 8][4], float scale) {
        float best[2] = {most[0], most[1]};
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) best[e / 2] = fmaxf(best[e / 2], s[n][e]);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            best[h] = fmaxf(best[h], __shfl_xor_sync(~0u, best[h], 1));
            best[h] = fmaxf(best[h], __shfl_xor_sync(~0u, best[h], 2));
        }
        const float shift[2] = {best[0] == -INFINITY ? 0 : best[0] * scale, best[1] == -INFINITY ? 0 : best[1] * scale};
        if (__any_sync(~0u, best[0] != most[0] || best[1] != most[1])) {
            const float factor[2] = {power2(most[0] * scale - shift[0]), power2(most[1] * scale - shift[1])};
#pragma unroll
            for (int i = 0; i < 8 * GROUPS; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) o[i][e] *= factor[e / 2];
            sum[0] *= factor[0], sum[1] *= factor[1];
            most[0] = best[0], most[1] = best[1];
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[n][e] = power2(fmaf(s[n][e], scale, -shift[e / 2]));
                sum[e / 2] += s[n][e];
            }
    }

    __device__ __forceinline__ void addValues(const uint4* values, const float (&s)[KEYS / 8][4]) {
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            const uint4 p{packBf16(s[2 * k][0], s[2 * k][1]), packBf16(s[2 * k][2], s[2 * k][3]),
                          packBf16(s[2 * k + 1][0], s[2 * k + 1][1]), packBf16(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
            for (int n = 0; n < 4 * GROUPS; n++) {
                const uint4 b = loadTransposed(Rows::at(values, 16 * k + lane % 16, 2 * n + lane / 16));
                mma(o[2 * n], p, b.x, b.y);
                mma(o[2 * n + 1], p, b.z, b.w);
            }
        }
    }
};
