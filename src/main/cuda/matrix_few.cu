// Matrix products for few rows (decode): y = x W^T + b, weights streamed once from memory.
//
// Shapes    x [*, K] bf16, W [N, K] bf16 row-major ([E][N][K] for experts), b [N] ([E][N]) float32 or null, y [*, N] bf16 or
//           float32. K and N multiples of 8; rows of x and W begin at multiples of 16 bytes.
// How       A block computes FEATURES features; its warps share K. Weights are the 16-row operand of mma.m16n8k16 and
//           go from memory to registers: lane 4 g + c takes 16 bytes of rows g and g + 8, k = 8 c .. 8 c + 7 of 32. Both operands
//           permute k alike, so nothing is shuffled. x, 8 rows at a time, comes from the L2.
// Bytes     W of the experts that have rows once per 32 of their rows (again from the L2), x from the L2, y once.
// Order     of a sum: k steps, then warps; the same whatever rows there are.

#include "device.cuh"
#include "experts.cuh"

namespace {

constexpr int FRAGMENT_FEATURES = 16;
constexpr int STEP = 32;   // of k that a lane's 16 bytes belong to
constexpr int AHEAD = 8;   // steps whose weights are loaded before the first is used
constexpr int TILE = 8;    // rows of x that one mma takes
constexpr int MAX_TILES = 4;
constexpr int RESIDENT_WARPS = 16;  // of a multiprocessor: leaves 128 registers, so that x and weights are loaded together
constexpr int TOGETHER = 4;  // choices of a row whose values are loaded at once

struct Rows {
    const int* list;  // sorted routed rows, or null: row i is i
    int count;
    int divisor;      // of a routed row to find its row of x
};

// Stays before the loads of weights that follow it.
__device__ __forceinline__ uint4 loadInOrder(const __nv_bfloat16* source) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(source));
    return v;
}

template <int FRAGMENTS>
struct Weights {
    uint4 values[AHEAD][FRAGMENTS][2];

    // w: row g of the block's first fragment; features: of the block that exist.
    __device__ __forceinline__ void load(const __nv_bfloat16* w, int K, int from, int to, int features) {
        const int lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
#pragma unroll
        for (int s = 0; s < AHEAD; s++) {
            const int k = from + s * STEP + 8 * c;
#pragma unroll
            for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int feature = f * FRAGMENT_FEATURES + h * 8 + g;
                    values[s][f][h] = k < to && feature < features
                        ? loadWeights(reinterpret_cast<const uint4*>(w + static_cast<long long>(feature) * K + k))
                        : uint4{};
                }
        }
    }
};

__device__ __forceinline__ void multiply(float (&d)[4], const uint4 (&w)[2], const uint4& x) {
    mma(d, uint4{w[0].x, w[1].x, w[0].y, w[1].y}, x.x, x.y);
    mma(d, uint4{w[0].z, w[1].z, w[0].w, w[1].w}, x.z, x.w);
}

// TILES: tiles of 8 rows that this pass computes. X_FIRST: x of a group of steps is loaded before their weights, so that it
// is there when they are; else it comes step by step, which takes fewer registers.
template <int WARPS, int FRAGMENTS, int TILES, bool X_FIRST>
__device__ __forceinline__ void pass(const __nv_bfloat16* x, long long xStride, const __nv_bfloat16* w, int K,
                                     int features, const Rows& rows, int firstRow, Weights<FRAGMENTS>& weights,
                                     bool loaded, float* partials) {
    constexpr int FEATURES = FRAGMENTS * FRAGMENT_FEATURES;
    constexpr int STRIDE = FEATURES + 4;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int steps = (K + STEP - 1) / STEP, share = (steps + WARPS - 1) / WARPS;
    const int from = warp * share * STEP, to = min(K, from + share * STEP);
    const __nv_bfloat16* sources[TILES];
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        const int r = firstRow + t * TILE + g;
        const int row = r >= rows.count ? -1 : rows.list != nullptr ? rows.list[r] / rows.divisor : r;
        sources[t] = row < 0 ? nullptr : x + row * xStride;
    }
    float d[FRAGMENTS][TILES][4] = {};
    for (int k = from; k < to; k += AHEAD * STEP) {
        [[maybe_unused]] uint4 values[X_FIRST ? AHEAD : 1][TILES];
        if constexpr (X_FIRST) {
#pragma unroll
            for (int s = 0; s < AHEAD; s++)
#pragma unroll
                for (int t = 0; t < TILES; t++) {
                    const int at = k + s * STEP + 8 * c;
                    values[s][t] = sources[t] != nullptr && at < to ? loadInOrder(sources[t] + at) : uint4{};
                }
        }
        if (!loaded) weights.load(w, K, k, to, features);
        loaded = false;
#pragma unroll
        for (int s = 0; s < AHEAD; s++) {
            const int at = k + s * STEP + 8 * c;
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                uint4 value{};
                if constexpr (X_FIRST) {
                    value = values[s][t];
                } else if (sources[t] != nullptr && at < to) {
                    value = *reinterpret_cast<const uint4*>(sources[t] + at);
                }
#pragma unroll
                for (int f = 0; f < FRAGMENTS; f++) multiply(d[f][t], weights.values[s][f], value);
            }
        }
    }
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            float* mine = partials + (warp * TILES * TILE + t * TILE + 2 * c) * STRIDE + f * FRAGMENT_FEATURES + g;
            mine[0] = d[f][t][0];
            mine[STRIDE] = d[f][t][1];
            mine[8] = d[f][t][2];
            mine[STRIDE + 8] = d[f][t][3];
        }
}

template <int WARPS, int FRAGMENTS, int TILES>
__device__ __forceinline__ void store(const float* partials, const float* bias, int feature, int features,
                                      const Rows& rows, int firstRow, void* y, long long yStride, bool wide) {
    constexpr int FEATURES = FRAGMENTS * FRAGMENT_FEATURES;
    constexpr int STRIDE = FEATURES + 4;
    for (int i = threadIdx.x; i < TILES * TILE * FEATURES; i += WARPS * WARP) {
        const int r = i / FEATURES, f = i % FEATURES;
        if (firstRow + r >= rows.count || f >= features) continue;
        float sum = 0;
#pragma unroll
        for (int v = 0; v < WARPS; v++) sum += partials[(v * TILES * TILE + r) * STRIDE + f];
        if (bias != nullptr) sum += __ldg(bias + f);
        const long long at = (rows.list != nullptr ? rows.list[firstRow + r] : firstRow + r) * yStride + feature + f;
        if (wide) {
            static_cast<float*>(y)[at] = sum;
        } else {
            static_cast<__nv_bfloat16*>(y)[at] = __float2bfloat16_rn(sum);
        }
    }
}

// MOST: tiles of 8 rows that a pass computes at most; 1: there are no more than 8 rows.
template <int WARPS, int FRAGMENTS, int MOST, bool X_FIRST>
__device__ __forceinline__ void product(const __nv_bfloat16* x, long long xStride, const __nv_bfloat16* w,
                                        const float* bias, int N, int K, const Rows& rows,
                                        Weights<FRAGMENTS>& weights, bool loaded, void* y, long long yStride, bool wide) {
    constexpr int FEATURES = FRAGMENTS * FRAGMENT_FEATURES;
    __shared__ float partials[WARPS * MOST * TILE * (FEATURES + 4)];
    const int feature = blockIdx.x * FEATURES, features = min(FEATURES, N - feature);
    const __nv_bfloat16* own = w + static_cast<long long>(feature) * K;
    const float* ownBias = bias != nullptr ? bias + feature : nullptr;
#define PASS(TILES)                                                                                              \
    pass<WARPS, FRAGMENTS, TILES, X_FIRST && TILES == 1>(x, xStride, own, K, features, rows, row, weights, loaded, \
                                                         partials);                                              \
    __syncthreads();                                                                                             \
    store<WARPS, FRAGMENTS, TILES>(partials, ownBias, feature, features, rows, row, y, yStride, wide);
    if constexpr (MOST == 1) {
        constexpr int row = 0;
        PASS(1)
    } else {
        for (int row = 0; row < rows.count; row += MOST * TILE) {
            if (row > 0) __syncthreads();
            const int left = rows.count - row;
            if (left > 2 * TILE) {
                PASS(MOST)
            } else if (left > TILE) {
                PASS(2)
            } else {
                PASS(1)
            }
            loaded = false;
        }
    }
#undef PASS
}

template <int WARPS, int FRAGMENTS>
__device__ __forceinline__ void dense(const __nv_bfloat16* x, long long xStride, int rows, const __nv_bfloat16* w,
                                      const float* bias, int N, int K, void* y, long long yStride, int wide) {
    Weights<FRAGMENTS> weights;
    const int steps = (K + STEP - 1) / STEP, share = (steps + WARPS - 1) / WARPS;
    const int from = threadIdx.x / WARP * share * STEP, to = min(K, from + share * STEP);
    const int feature = blockIdx.x * FRAGMENTS * FRAGMENT_FEATURES;
    weights.load(w + static_cast<long long>(feature) * K, K, from, to, N - feature);
    allowNextKernel();
    awaitPreviousKernel();
    product<WARPS, FRAGMENTS, MAX_TILES, false>(x, xStride, w, bias, N, K, Rows{nullptr, rows, 1}, weights, from < to, y,
                                                yStride, wide);
}

template <int WARPS, int FRAGMENTS, int MOST>
__device__ __forceinline__ void routed(const __nv_bfloat16* x, long long xStride, int choices,
                                       const __nv_bfloat16* w, const float* bias, int N, int K, const int* starts,
                                       const int* sorted, const int* active, void* y, long long yStride, int wide) {
    // In this order: it was measured to be faster when blocks of later kernels do not fill the device before these have begun.
    awaitPreviousKernel();
    allowNextKernel();
    const int count = active[0], e = active[1 + blockIdx.y];
    if (static_cast<int>(blockIdx.y) >= count) return;
    const int first = starts[e], end = starts[e + 1];
    Weights<FRAGMENTS> weights;
    product<WARPS, FRAGMENTS, MOST, true>(x, xStride, w + static_cast<long long>(e) * N * K,
                                          bias != nullptr ? bias + e * N : nullptr, N, K,
                                          Rows{sorted + first, end - first, choices}, weights, false, y, yStride, wide);
}

}  // namespace

// matrix_few_W_F: W warps, F fragments of 16 features per block. Grid (N / (16 F)); rows <= 64 for speed.
// experts_few_W_F: grid (N / (16 F), experts that can have rows); row i of `sorted` takes row i / choices of x.
// experts_one_W_F: the same where no expert has more than 8 rows.
#define EXPERTS(NAME, WARPS, FRAGMENTS, MOST)                                                                    \
    extern "C" __global__ void __launch_bounds__(WARPS * WARP, RESIDENT_WARPS / WARPS)                           \
        experts_##NAME##_##WARPS##_##FRAGMENTS(const __nv_bfloat16* x, long long xStride, int choices,           \
                                               const __nv_bfloat16* w, const float* bias, int n, int k,          \
                                               const int* starts, const int* sorted, const int* active, void* y, \
                                               long long yStride, int wide) {                                    \
        routed<WARPS, FRAGMENTS, MOST>(x, xStride, choices, w, bias, n, k, starts, sorted, active, y, yStride,   \
                                       wide);                                                                    \
    }
#define KERNELS(WARPS, FRAGMENTS)                                                                                \
    extern "C" __global__ void __launch_bounds__(WARPS * WARP)                                                   \
        matrix_few_##WARPS##_##FRAGMENTS(const __nv_bfloat16* x, long long xStride, int rows,                    \
                                         const __nv_bfloat16* w, const float* bias, int n, int k, void* y,       \
                                         long long yStride, int wide) {                                          \
        dense<WARPS, FRAGMENTS>(x, xStride, rows, w, bias, n, k, y, yStride, wide);                              \
    }                                                                                                            \
    EXPERTS(few, WARPS, FRAGMENTS, MAX_TILES)                                                                    \
    EXPERTS(one, WARPS, FRAGMENTS, 1)

KERNELS(2, 1)
KERNELS(4, 1)
KERNELS(8, 1)

// out[r] = sum_j weights[r, j] * y[r * topK + j], in the order of the choices. y float32 [*, yStride], out bf16 or
// float32; n a multiple of 8. Grid (n / (8 * 128), rows), 128 threads.
extern "C" __global__ void __launch_bounds__(128)
    experts_combine(const float* y, long long yStride, const int* experts, const float* weights, int topK, int n,
                    void* out, long long outStride, int wide) {
    allowNextKernel();
    awaitPreviousKernel();
    const int column = 8 * (blockIdx.x * blockDim.x + threadIdx.x), row = blockIdx.y;
    if (column >= n) return;
    float sums[8] = {};
    // Padded rows' y may be anything: read with the rest, so that no load waits for another, but not added.
    for (int first = 0; first < topK; first += TOGETHER) {
        float4 values[TOGETHER][2];
        float factors[TOGETHER];
        bool real[TOGETHER];
#pragma unroll
        for (int j = 0; j < TOGETHER; j++) {
            const bool exists = first + j < topK;
            const int i = row * topK + first + j;
            const float4* source = reinterpret_cast<const float4*>(y + i * yStride + column);
            values[j][0] = exists ? source[0] : float4{};
            values[j][1] = exists ? source[1] : float4{};
            factors[j] = exists ? weights[i] : 0;
            real[j] = exists && experts[i] >= 0;
        }
#pragma unroll
        for (int j = 0; j < TOGETHER; j++) {
            if (!real[j]) continue;
            const float4 a = values[j][0], b = values[j][1];
            const float own[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
            for (int v = 0; v < 8; v++) sums[v] = fmaf(factors[j], own[v], sums[v]);
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

// y += b, for products that cannot add it themselves. Grid (n / (8 * threads), rows).
extern "C" __global__ void __launch_bounds__(256)
    add_bias(void* y, long long yStride, int n, const float* bias, int wide) {
    allowNextKernel();
    const int column = 8 * (blockIdx.x * blockDim.x + threadIdx.x);
    awaitPreviousKernel();
    if (column >= n) return;
    const float4* biases = reinterpret_cast<const float4*>(bias + column);
    const float4 a = __ldg(biases), b = __ldg(biases + 1);
    const long long at = blockIdx.y * yStride + column;
    if (wide) {
        float4* target = reinterpret_cast<float4*>(static_cast<float*>(y) + at);
        float4 first = target[0], second = target[1];
        addTo(first, a), addTo(second, b);
        target[0] = first, target[1] = second;
    } else {
        uint4* target = reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(y) + at);
        const uint4 old = *target;
        const float2 v0 = unpackBf16(old.x), v1 = unpackBf16(old.y), v2 = unpackBf16(old.z), v3 = unpackBf16(old.w);
        *target = uint4{packBf16(v0.x + a.x, v0.y + a.y), packBf16(v1.x + a.z, v1.y + a.w),
                        packBf16(v2.x + b.x, v2.y + b.y), packBf16(v3.x + b.z, v3.y + b.w)};
    }
}
