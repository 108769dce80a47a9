// What follows matrix products for many rows: biases, and sums over the choices of a row.
//
// Limits: columns are multiples of 8, rows begin at multiples of 16 bytes. Each byte is read or written once.

#include "device.cuh"

namespace {

struct Eight {
    float values[8];
};

__device__ __forceinline__ Eight unpack(const uint4& packed) {
    const float2 a = unpackBf16(packed.x), b = unpackBf16(packed.y), c = unpackBf16(packed.z), d = unpackBf16(packed.w);
    return Eight{{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}

__device__ __forceinline__ uint4 pack(const Eight& e) {
    const float* v = e.values;
    return uint4{packBf16(v[0], v[1]), packBf16(v[2], v[3]), packBf16(v[4], v[5]), packBf16(v[6], v[7])};
}

__device__ __forceinline__ void store(float* target, const Eight& e) {
    const float* v = e.values;
    reinterpret_cast<float4*>(target)[0] = float4{v[0], v[1], v[2], v[3]};
    reinterpret_cast<float4*>(target)[1] = float4{v[4], v[5], v[6], v[7]};
}

}  // namespace

// out[r] = sum_j weights[r * choices + j] * terms[r * choices + j], in the order of j, for r < rows and, where it is
// not null, r < *rowCount. terms bf16 [rows * choices, columns]; out bf16, or float32 if wide; one block per row.
extern "C" __global__ void sum_choices(const __nv_bfloat16* terms, int termStride, const float* weights, int choices,
                                       void* out, int outStride, int wide, int columns, const int* rowCount) {
    awaitPreviousKernel();
    allowNextKernel();
    const int row = blockIdx.x;
    if (rowCount != nullptr && row >= *rowCount) return;
    const long long first = static_cast<long long>(row) * choices;
    for (int column = threadIdx.x * 8; column < columns; column += blockDim.x * 8) {
        Eight sum{};
        const __nv_bfloat16* term = terms + first * termStride + column;
#pragma unroll 4
        for (int j = 0; j < choices; j++, term += termStride) {
            const float weight = weights[first + j];
            const Eight e = unpack(*reinterpret_cast<const uint4*>(term));
#pragma unroll
            for (int i = 0; i < 8; i++) sum.values[i] += weight * e.values[i];
        }
        const long long at = static_cast<long long>(row) * outStride + column;
        if (wide)
            store(static_cast<float*>(out) + at, sum);
        else
            *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(out) + at) = pack(sum);
    }
}

// y[r] += bias; y bf16, or float32 if wide; one block per row.
extern "C" __global__ void add_bias(void* y, int stride, int wide, const float* bias, int columns) {
    awaitPreviousKernel();
    allowNextKernel();
    const long long row = static_cast<long long>(blockIdx.x) * stride;
    for (int column = threadIdx.x * 8; column < columns; column += blockDim.x * 8) {
        const float4 lo = __ldg(reinterpret_cast<const float4*>(bias + column));
        const float4 hi = __ldg(reinterpret_cast<const float4*>(bias + column + 4));
        const Eight b{{lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w}};
        if (wide) {
            float* target = static_cast<float*>(y) + row + column;
            Eight e;
#pragma unroll
            for (int i = 0; i < 8; i++) e.values[i] = target[i] + b.values[i];
            store(target, e);
        } else {
            uint4* target = reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(y) + row + column);
            Eight e = unpack(*target);
#pragma unroll
            for (int i = 0; i < 8; i++) e.values[i] += b.values[i];
            *target = pack(e);
        }
    }
}

// out[p] = x[sorted[p] / choices]: rows in the order of experts. bf16, columns a multiple of 8, rows of out without gaps; one
// block per row.
extern "C" __global__ void gather_sorted(const __nv_bfloat16* x, long long xStride, const int* sorted, int choices,
                                         int columns, __nv_bfloat16* out) {
    awaitPreviousKernel();
    allowNextKernel();
    const long long place = blockIdx.x;
    const uint4* source = reinterpret_cast<const uint4*>(x + sorted[place] / choices * xStride);
    uint4* target = reinterpret_cast<uint4*>(out + place * columns);
    for (int i = threadIdx.x; i < columns / 8; i += blockDim.x) target[i] = source[i];
}
