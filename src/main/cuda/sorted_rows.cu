// Brings rows into the order of their experts, for matrix_many.cu, whose copy engine takes boxes of neighbouring rows; and adds
// up the terms that it leaves in the order of rows.
//
// Shapes    x [*, columns] bf16 with a stride, out [places, columns] bf16 without gaps; columns a multiple of 8; sorted as
//           experts.cuh says. terms [routed, n] fp16 with a stride, as many_rows.cuh says.
// Limits    places * columns < 2^34, columns < 2^19.
// Bytes     x once from memory, then from the L2; out once. Terms once.
// Order     of a sum: that of a row's choices.

#include <cuda_fp16.h>

#include "many_rows.cuh"

constexpr int GATHER_THREADS = 256;
constexpr int TOGETHER = 4;  // vectors of a thread: their loads are under way at once
constexpr int COMBINE_THREADS = 256;
constexpr int TERMS = 8;  // loaded at once

// out[p] = x[sorted[p] / choices]: rows in the order of experts. places: device address of how many rows there are; what
// `sorted` holds beyond, for padded rows, is stale.
// Grid (places * slice / (TOGETHER * GATHER_THREADS), columns / (8 * slice)): blocks begin in this order, so that with
// slices of a few MB in all rows x comes from the L2 whenever an expert wants it again.
extern "C" __global__ void __launch_bounds__(GATHER_THREADS)
    gather_sorted(const __nv_bfloat16* x, long long xStride, const int* sorted, const int* places, int choices, int columns,
                  int slice, __nv_bfloat16* out) {
    awaitPreviousKernel();
    allowNextKernel();
    const unsigned perRow = columns / 8, width = slice, from = blockIdx.x * (TOGETHER * GATHER_THREADS) + threadIdx.x;
    const unsigned end = *places;
    const uint4* sources[TOGETHER];
    uint4* targets[TOGETHER];
#pragma unroll
    for (int i = 0; i < TOGETHER; i++) {
        const unsigned index = from + i * GATHER_THREADS, place = index / width;
        const unsigned vector = blockIdx.y * width + index - place * width;
        sources[i] = nullptr;
        if (place < end && vector < perRow) {
            sources[i] = reinterpret_cast<const uint4*>(x + sorted[place] / choices * xStride) + vector;
            targets[i] = reinterpret_cast<uint4*>(out) + static_cast<long long>(place) * perRow + vector;
        }
    }
    uint4 values[TOGETHER];
#pragma unroll
    for (int i = 0; i < TOGETHER; i++)
        if (sources[i] != nullptr) values[i] = *sources[i];
#pragma unroll
    for (int i = 0; i < TOGETHER; i++)
        if (sources[i] != nullptr) *targets[i] = values[i];
}

// out[r] = sum_j weights[r, j] * terms[r * topK + j], in the order of the choices; out bf16 or float32; n a multiple of 8.
// Grid (n / (8 * COMBINE_THREADS), rows). Padded rows' terms may be anything: they are not added.
extern "C" __global__ void __launch_bounds__(COMBINE_THREADS)
    combine_terms(const __half* terms, long long stride, const int* experts, const float* weights, int topK, int n,
                  void* out, long long outStride, int wide) {
    allowNextKernel();
    awaitPreviousKernel();
    const int column = 8 * (blockIdx.x * COMBINE_THREADS + threadIdx.x);
    if (column >= n) return;
    const long long row = blockIdx.y;
    float sums[8] = {};
    for (int first = 0; first < topK; first += TERMS) {
        uint4 values[TERMS];
        float factors[TERMS];
        bool real[TERMS];
#pragma unroll
        for (int j = 0; j < TERMS; j++) {
            const bool exists = first + j < topK;
            const long long i = row * topK + first + j;
            values[j] = exists ? __ldcs(reinterpret_cast<const uint4*>(terms + i * stride + column)) : uint4{};
            factors[j] = exists ? weights[i] : 0;
            real[j] = exists && experts[i] >= 0;
        }
#pragma unroll
        for (int j = 0; j < TERMS; j++) {
            if (!real[j]) continue;
            const unsigned pairs[4] = {values[j].x, values[j].y, values[j].z, values[j].w};
#pragma unroll
            for (int v = 0; v < 4; v++) {
                const float2 pair = unpackTerms(pairs[v]);
                sums[2 * v] = fmaf(factors[j], pair.x, sums[2 * v]);
                sums[2 * v + 1] = fmaf(factors[j], pair.y, sums[2 * v + 1]);
            }
        }
    }
    if (wide) {
        float4* target = reinterpret_cast<float4*>(static_cast<float*>(out) + row * outStride + column);
        target[0] = float4{sums[0], sums[1], sums[2], sums[3]};
        target[1] = float4{sums[4], sums[5], sums[6], sums[7]};
    } else {
        *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(out) + row * outStride + column) =
            uint4{packBf16(sums[0], sums[1]), packBf16(sums[2], sums[3]), packBf16(sums[4], sums[5]),
                  packBf16(sums[6], sums[7])};
    }
}
