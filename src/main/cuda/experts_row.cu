// Products of one row with the experts that it chose (decode of one sequence): y[j] = x[j] W_e^T + b_e, e being choice j.
//
// Shapes    x [1 or choices, K] bf16, W [E][N, K] bf16 row-major, b [E][N] float32 or null, y [choices, N] bf16 or float32;
//           or x = activation(gate, up), both [choices, K] bf16, rounded to bf16. K and N multiples of 8; rows of x, gate, up
//           and W begin at multiples of 16 bytes.
// How       As matrix_few.cu, but the row's choices are all that is needed to begin: no plan. A block computes 16 features of
//           a choice, its warps share K. A warp brings its part of x, a piece per lane, to shared memory while its weights are
//           on their way; a pair of gate and up is joined there, so that this, too, takes no time of its own. Every block of a
//           choice joins all of its row: K of them, beside 16 K weights.
// Bytes     W of the chosen experts once, x once per block from the L2, y once.
// Order     of a sum: k steps, then warps; as matrix_few.cu's with as many warps.

#include "activation.cuh"
#include "vector.cuh"

namespace {

constexpr int FEATURES = 16;
constexpr int STEP = 32;  // of k that a lane's 16 bytes belong to
constexpr int AHEAD = 8;  // steps whose weights are loaded before the first is used

static_assert(AHEAD * STEP == WARP * VECTOR, "a piece of x per lane");

// Not moved behind the loads of weights.
__device__ __forceinline__ uint4 loadPiece(const __nv_bfloat16* source) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(source));
    return v;
}

// Not GATED: `gate` is x.
template <int WARPS, bool GATED>
__device__ __forceinline__ void multiplyRow(const __nv_bfloat16* gate, const __nv_bfloat16* up, long long xStride,
                                            int activation, const __nv_bfloat16* w, const float* bias, int N, int K,
                                            const int* experts, void* y, long long yStride, bool wide) {
    __shared__ uint4 pieces[WARPS][WARP];
    __shared__ float partials[WARPS][FEATURES];
    awaitPreviousKernel();
    allowNextKernel();  // not before: blocks that only wait would take registers from the kernel before
    const int e = experts[blockIdx.y];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int steps = (K + STEP - 1) / STEP, share = (steps + WARPS - 1) / WARPS;
    const int from = warp * share * STEP, to = min(K, from + share * STEP);
    const int feature = blockIdx.x * FEATURES, features = min(FEATURES, N - feature);
    const __nv_bfloat16* block = w + (static_cast<long long>(e) * N + feature) * K;
    const long long row = blockIdx.y * xStride;
    if (e < 0) return;
    float d[4] = {};
    for (int k = from; k < to; k += AHEAD * STEP) {
        const int own = k + VECTOR * lane;
        uint4 x = own < to ? loadPiece(gate + row + own) : uint4{};
        [[maybe_unused]] const uint4 other = GATED && own < to ? loadPiece(up + row + own) : uint4{};
        uint4 weights[AHEAD][2];
#pragma unroll
        for (int s = 0; s < AHEAD; s++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int f = h * 8 + g, at = k + s * STEP + VECTOR * c;
                weights[s][h] = at < to && f < features
                    ? loadWeights(reinterpret_cast<const uint4*>(block + static_cast<long long>(f) * K + at)) : uint4{};
            }
        if constexpr (GATED) {
            float v[VECTOR], u[VECTOR];
            unpack(x, v);
            unpack(other, u);
#pragma unroll
            for (int i = 0; i < VECTOR; i++) v[i] = gated(activation, v[i], u[i]);
            x = pack(v);
        }
        if (k > from) __syncwarp();
        pieces[warp][lane] = x;
        __syncwarp();
#pragma unroll
        for (int s = 0; s < AHEAD; s++) {
            // The other columns of the tensor core's product stay empty.
            const uint4 v = g == 0 ? pieces[warp][s * STEP / VECTOR + c] : uint4{};
            const uint4(&a)[2] = weights[s];
            mma(d, uint4{a[0].x, a[1].x, a[0].y, a[1].y}, v.x, v.y);
            mma(d, uint4{a[0].z, a[1].z, a[0].w, a[1].w}, v.z, v.w);
        }
    }
    if (c == 0) partials[warp][g] = d[0], partials[warp][g + 8] = d[2];
    __syncthreads();
    const int f = threadIdx.x;
    if (f >= features) return;
    float sum = 0;
#pragma unroll
    for (int v = 0; v < WARPS; v++) sum += partials[v][f];
    if (bias != nullptr) sum += __ldg(bias + e * N + feature + f);
    const long long at = blockIdx.y * yStride + feature + f;
    if (wide) {
        static_cast<float*>(y)[at] = sum;
    } else {
        static_cast<__nv_bfloat16*>(y)[at] = __float2bfloat16_rn(sum);
    }
}

}  // namespace

// experts_row_W: W warps; grid (N / 16, choices). xStride 0: all choices have the same x.
// experts_gated_W: the same of activation(gate, up), both with xStride.
// 16 warps per multiprocessor, as in matrix_few.cu.
#define KERNELS(WARPS)                                                                                                 \
    extern "C" __global__ void __launch_bounds__(WARPS * WARP, 16 / WARPS)                                             \
        experts_row_##WARPS(const __nv_bfloat16* x, long long xStride, const __nv_bfloat16* w, const float* bias,      \
                            int n, int k, const int* experts, void* y, long long yStride, int wide) {                  \
        multiplyRow<WARPS, false>(x, nullptr, xStride, 0, w, bias, n, k, experts, y, yStride, wide);                   \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(WARPS * WARP, 16 / WARPS)                                             \
        experts_gated_##WARPS(const __nv_bfloat16* gate, const __nv_bfloat16* up, long long xStride, int activation,   \
                              const __nv_bfloat16* w, const float* bias, int n, int k, const int* experts, void* y,    \
                              long long yStride, int wide) {                                                           \
        multiplyRow<WARPS, true>(gate, up, xStride, activation, w, bias, n, k, experts, y, yStride, wide);             \
    }

KERNELS(2)
KERNELS(4)
KERNELS(8)
