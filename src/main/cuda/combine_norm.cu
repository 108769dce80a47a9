// The sum of a row's experts, the residual stream and the norm that follows, in one kernel, for few rows.
//
// Shapes    terms [rows * topK, termsStride] float32, as the experts' products write them; experts and weights as experts.cuh
//           says; y [rows, cols] bf16 or float32; weight [cols] float32, padded with zeros; out [rows, cols] bf16 or float32.
//           cols <= 4096.
// How       y += sum_j weights[r, j] * terms[r * topK + j]; out = rms norm of y. A block per row, 8 columns a thread; clusters of
//           2 to 8 blocks per row were no faster.
// Bytes     terms once, y twice, out once. Latency is what counts: so all loads of a row are under way at once.
// Order     of a row's terms: that of the choices; of the norm: as elements.cu has it.

#include "experts.cuh"
#include "norm.cuh"

namespace {

constexpr int TOGETHER = 8;  // choices whose terms are loaded at once

// The sum of 8 columns over a row's choices: as experts_combine of matrix_few.cu adds them.
__device__ __forceinline__ void combine(const float* terms, long long termsStride, const int* experts,
                                        const float* weights, int topK, int row, int column, float (&sums)[VECTOR]) {
#pragma unroll
    for (int v = 0; v < VECTOR; v++) sums[v] = 0;
    for (int first = 0; first < topK; first += TOGETHER) {
        float values[TOGETHER][VECTOR];
        float factors[TOGETHER];
        bool real[TOGETHER];
#pragma unroll
        for (int j = 0; j < TOGETHER; j++) {
            real[j] = first + j < topK;
            if (!real[j]) continue;
            const int i = row * topK + first + j;
            // Padded rows' terms may be anything: read with the rest, so that no load waits for another, but not added.
            loadVector(reinterpret_cast<const char*>(terms + i * termsStride + column), 0, true, values[j]);
            factors[j] = weights[i];
            real[j] = experts[i] >= 0;
        }
#pragma unroll
        for (int j = 0; j < TOGETHER; j++) {
            if (!real[j]) continue;
#pragma unroll
            for (int v = 0; v < VECTOR; v++) sums[v] = fmaf(factors[j], values[j][v], sums[v]);
        }
    }
}

}  // namespace

// Grid (rows); threads: a multiple of 32, 8 columns each. sumWide: whether the sum is kept as float32, else it is rounded to
// bf16 before it is added.
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
    combine_norm(const float* terms, long long termsStride, const int* experts, const float* weights, int topK, int sumWide,
                 void* y, long long yStride, int yWide, const float* __restrict__ weight, int cols, float eps, void* out,
                 long long outStride, int outWide) {
    __shared__ alignas(16) float squares[NORM_WARPS];
    allowNextKernel();
    const int row = blockIdx.x, vector = threadIdx.x;
    const bool present = vector < vectors(cols);
    float scale[VECTOR] = {};
    if (present) loadVector(reinterpret_cast<const char*>(weight), vector, true, scale);
    if (vector < NORM_WARPS) squares[vector] = 0;
    __syncthreads();
    awaitPreviousKernel();

    char* residual = rowOf(y, yStride, row, yWide);
    float v[VECTOR] = {};
    if (present) {
        float sum[VECTOR];
        loadVector(residual, vector, yWide, v);
        combine(terms, termsStride, experts, weights, topK, row, vector * VECTOR, sum);
        if (!sumWide) unpack(pack(sum), sum);
        addRounded(sum, yWide, v);
        storeVector(residual, vector, yWide, v);
        maskTail(vector, cols, v);
    }
    const float own = sumOfWarp(squaresOf(v));
    if (threadIdx.x % WARP == 0) squares[threadIdx.x / WARP] = own;
    __syncthreads();
    if (!present) return;
    const float factor = 1 / sqrtf(sumOfWarps(squares) / cols + eps);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) v[i] = v[i] * factor * scale[i];
    maskTail(vector, cols, v);
    storeVector(rowOf(out, outStride, row, outWide), vector, outWide, v);
}
