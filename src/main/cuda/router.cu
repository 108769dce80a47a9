// The router's product, the choice of experts and their plan in one kernel, for few rows; for very few after the norm before it.
//
// Shapes    x [rows, K] bf16, W [E, K] bf16 row-major, b [E] float32 or null; the rest as experts.cuh and route.cu say.
//           rows <= 64, rows * topK <= 512, E <= 16 * blocks, K a multiple of 8; rows of x and W begin at multiples of
//           16 bytes. With the norm: rows <= 4, [rows, cols] bf16 or float32 to add, the residual stream y likewise; K is cols
//           rounded up to a multiple of 8 and at most 4096; x is the result.
// How       A cluster of blocks, 16 experts each. K is cut into 16 shares, which the block's warps take; weights go to registers
//           before the wait for x, as in matrix_few.cu. Logits meet in the shared memory of the first block, which chooses and
//           plans. Each block makes the norms for itself, and y is written when all have read it. That kernel takes half of a
//           multiprocessor's registers and little shared memory, so as to be there while the product before it still runs.
// Bytes     W once, x once per block; nothing next to what the experts read. Latency is what counts.
// Order     of a sum: k steps, then shares; the same whatever rows there are. Of a norm: as elements.cu has it.

#include "norm.cuh"
#include "route.cuh"

namespace {

constexpr int SHARES = 16;
constexpr int FEATURES = 16;
constexpr int STEP = 32;   // of k that a lane's 16 bytes belong to
constexpr int TILE = 8;    // rows that one mma takes
constexpr int STRIDE = FEATURES + 4;
constexpr int MOST = 8 * FEATURES;

// AHEAD: steps of a share whose weights are loaded before the first is used. TILES: of a pass. ROWS: at most.
template <int WARPS_, int AHEAD_, int TILES_, int ROWS_, bool NORM_>
struct Shape {
    static constexpr int WARPS = WARPS_, AHEAD = AHEAD_, TILES = TILES_, ROWS = ROWS_;
    static constexpr bool NORM = NORM_;
    static constexpr int THREADS = WARPS * WARP, OWN = SHARES / WARPS;
};

using Plain = Shape<16, 6, 2, PLAN_ROWS, false>;  // AHEAD: all, up to K = 3072
using Normed = Shape<8, 4, 1, 4, true>;           // 2048

template <typename S>
struct Space {
    float logits[S::ROWS][MOST];
    float partials[SHARES][S::TILES * TILE][STRIDE];
    PlanSpace<S::WARPS, S::ROWS> plan;
    alignas(16) float squares[S::NORM ? 2 : 1][NORM_WARPS];
};

static_assert(sizeof(Space<Plain>) == 70784 && sizeof(Space<Normed>) == 18112, "as RoutingOps has it");

// y += x, and the norm of y.
struct Norm {
    const void* x;
    long long xStride;
    int xWide;
    void* y;
    long long yStride;
    int yWide;
    const float* weight;
    int cols;
    float eps;
    __nv_bfloat16* out;
    long long outStride;
};

template <typename S>
struct Weights {
    uint4 values[S::OWN][S::AHEAD][2];

    // k: of a share, from its beginning.
    __device__ __forceinline__ void load(const __nv_bfloat16* w, int K, int share, int k, int features) {
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
#pragma unroll
        for (int o = 0; o < S::OWN; o++) {
            const int from = (warp * S::OWN + o) * share, to = min(K, from + share);
#pragma unroll
            for (int s = 0; s < S::AHEAD; s++) {
                const int at = from + k + s * STEP + 8 * c;
#pragma unroll
                for (int h = 0; h < 2; h++)
                    values[o][s][h] = at < to && h * 8 + g < features
                        ? loadWeights(reinterpret_cast<const uint4*>(w + static_cast<long long>(h * 8 + g) * K + at))
                        : uint4{};
            }
        }
    }
};

// What y will hold.
__device__ __forceinline__ void sumOf(const Norm& norm, int row, int vector, float (&v)[VECTOR]) {
    float x[VECTOR];
    loadVector(rowOf(norm.x, norm.xStride, row, norm.xWide), vector, norm.xWide, x);
    loadVector(rowOf(norm.y, norm.yStride, row, norm.yWide), vector, norm.yWide, v);
    addRounded(x, norm.yWide, v);
}

// The norms of all rows, to shared memory; of one block also to memory.
template <typename S>
__device__ __forceinline__ void norms(const Norm& norm, int rows, float (&squares)[2][NORM_WARPS], __nv_bfloat16* into,
                                      int stride) {
    constexpr int PARTS = NORM_THREADS / S::THREADS;
    const int end = vectors(norm.cols), warp = threadIdx.x / WARP;
    const bool writes = blockIdx.x == gridDim.x - 1;
    for (int row = 0; row < rows; row++) {
        float v[PARTS][VECTOR] = {};
        float scale[PARTS][VECTOR] = {};
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            const int vector = p * S::THREADS + threadIdx.x;
            if (vector >= end) continue;
            sumOf(norm, row, vector, v[p]);
            loadVector(reinterpret_cast<const char*>(norm.weight), vector, true, scale[p]);
            maskTail(vector, norm.cols, v[p]);
        }
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            const float own = sumOfWarp(squaresOf(v[p]));
            if (threadIdx.x % WARP == 0) squares[row % 2][p * S::WARPS + warp] = own;
        }
        __syncthreads();
        const float factor = 1 / sqrtf(sumOfWarps(squares[row % 2]) / norm.cols + norm.eps);
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            const int vector = p * S::THREADS + threadIdx.x;
            if (vector >= end) continue;
#pragma unroll
            for (int k = 0; k < VECTOR; k++) v[p][k] = v[p][k] * factor * scale[p][k];
            maskTail(vector, norm.cols, v[p]);
            const uint4 packed = pack(v[p]);
            reinterpret_cast<uint4*>(into + row * stride)[vector] = packed;
            if (writes) reinterpret_cast<uint4*>(norm.out + row * norm.outStride)[vector] = packed;
        }
    }
    __syncthreads();
}

// y += x, by all blocks but the first, which has other things to do.
__device__ __forceinline__ void writeSums(const Norm& norm, int rows) {
    const int end = vectors(norm.cols), others = max(gridDim.x - 1, 1);
    const int block = gridDim.x > 1 ? blockIdx.x - 1 : 0;
    for (int i = block * blockDim.x + threadIdx.x; i < rows * end; i += others * blockDim.x) {
        const int row = i / end, vector = i - row * end;
        float v[VECTOR];
        sumOf(norm, row, vector, v);
        storeVector(rowOf(norm.y, norm.yStride, row, norm.yWide), vector, norm.yWide, v);
    }
}

constexpr int ROW_PADDING = 32;  // of rows in shared memory, behind the space

template <typename S>
__device__ __forceinline__ void choose(const Norm& norm, const __nv_bfloat16* x, long long xStride, int rows,
                                       const __nv_bfloat16* w, const float* bias, int K, const int* rowCount, int count,
                                       int topK, int softmaxFirst, int normalise, const Plan& plan, Space<S>& space) {
    allowNextKernel();
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int share = ((K + STEP - 1) / STEP + SHARES - 1) / SHARES * STEP;
    const int first = blockIdx.x * FEATURES, features = min(FEATURES, count - first);
    const __nv_bfloat16* own = w + static_cast<long long>(first) * K;
    const int f = threadIdx.x % FEATURES;  // whose partial sums the thread adds
    const float shift = bias != nullptr && f < features ? __ldg(bias + first + f) : 0;
    Weights<S> loaded;
    loaded.load(own, K, share, 0, features);
    if constexpr (S::NORM) {
        if (threadIdx.x * 32 < norm.cols) prefetchL2(norm.weight + threadIdx.x * 32);
        // What there are no registers for.
        const int lines = max(share / STEP - S::AHEAD, 0), at = threadIdx.x % SHARES * share + S::AHEAD * STEP;
        for (int i = threadIdx.x / SHARES; i < features * lines; i += S::THREADS / SHARES)
            if (at + i / features * STEP < K) prefetchL2(own + static_cast<long long>(i % features) * K + at + i / features * STEP);
    }
    clusterBarrier();  // the first block has begun: its memory may be written
    awaitPreviousKernel();
    if constexpr (S::NORM) {
        __nv_bfloat16* normed = reinterpret_cast<__nv_bfloat16*>(&space + 1);
        norms<S>(norm, rows, space.squares, normed, K + ROW_PADDING);
        x = normed, xStride = K + ROW_PADDING;
    }

    for (int row = 0; row < rows; row += S::TILES * TILE) {
        float d[S::OWN][S::TILES][4] = {};
        for (int k = 0; k < share; k += S::AHEAD * STEP) {
            if (row > 0 || k > 0) loaded.load(own, K, share, k, features);
#pragma unroll
            for (int s = 0; s < S::AHEAD; s++) {
#pragma unroll
                for (int o = 0; o < S::OWN; o++) {
                    const int from = (warp * S::OWN + o) * share, to = min(K, from + share), at = from + k + s * STEP + 8 * c;
#pragma unroll
                    for (int t = 0; t < S::TILES; t++) {
                        const int r = row + t * TILE + g;
                        const uint4 v = r < rows && at < to
                            ? *reinterpret_cast<const uint4*>(x + r * xStride + at) : uint4{};
                        const uint4(&a)[2] = loaded.values[o][s];
                        mma(d[o][t], uint4{a[0].x, a[1].x, a[0].y, a[1].y}, v.x, v.y);
                        mma(d[o][t], uint4{a[0].z, a[1].z, a[0].w, a[1].w}, v.z, v.w);
                    }
                }
            }
        }
#pragma unroll
        for (int o = 0; o < S::OWN; o++)
#pragma unroll
            for (int t = 0; t < S::TILES; t++) {
                float* mine = &space.partials[warp * S::OWN + o][t * TILE + 2 * c][g];
                mine[0] = d[o][t][0], mine[STRIDE] = d[o][t][1], mine[8] = d[o][t][2], mine[STRIDE + 8] = d[o][t][3];
            }
        __syncthreads();
        const int r = threadIdx.x / FEATURES;
        if (r < S::TILES * TILE && row + r < rows && f < features) {
            float sum = 0;
#pragma unroll
            for (int v = 0; v < SHARES; v++) sum += space.partials[v][r][f];
            if (bias != nullptr) sum += shift;
            storeToBlock(&space.logits[row + r][first + f], 0, sum);
        }
        __syncthreads();
    }
    clusterBarrier();
    if constexpr (S::NORM) {
        if (blockIdx.x > 0 || gridDim.x == 1) writeSums(norm, rows);
    }
    if (blockIdx.x != 0) return;
    const int present = rowCount != nullptr ? min(rows, *rowCount) : rows;
    chooseAndPlan<MOST>(&space.logits[0][0], MOST, rows, present, count, topK, softmaxFirst, normalise, space.plan, plan);
}

}  // namespace

// Grid and cluster (E / 16 rounded up), 512 threads, sizeof(Space<Plain>) bytes of dynamic shared memory.
extern "C" __global__ void __launch_bounds__(Plain::THREADS)
    route_from(const __nv_bfloat16* x, long long xStride, int rows, const __nv_bfloat16* w, const float* bias, int K,
               const int* rowCount, int count, int topK, int softmaxFirst, int normalise, int* experts, float* weights,
               int* starts, int* sorted, int* active) {
    extern __shared__ float4 memory[];
    choose(Norm{}, x, xStride, rows, w, bias, K, rowCount, count, topK, softmaxFirst, normalise,
           Plan{experts, weights, starts, sorted, active}, *reinterpret_cast<Space<Plain>*>(memory));
}

// The same of a norm's result. 256 threads, sizeof(Space<Normed>) + rows * (K + 32) * 2 bytes of dynamic shared memory.
extern "C" __global__ void __launch_bounds__(Normed::THREADS, 2)
    norm_route(const void* x, long long xStride, int xWide, void* y, long long yStride, int yWide, const float* weight,
               int cols, float eps, __nv_bfloat16* out, long long outStride, int rows, const __nv_bfloat16* w,
               const float* bias, int K, const int* rowCount, int count, int topK, int softmaxFirst, int normalise,
               int* experts, float* weights, int* starts, int* sorted, int* active) {
    extern __shared__ float4 memory[];
    choose(Norm{x, xStride, xWide, y, yStride, yWide, weight, cols, eps, out, outStride}, nullptr, 0, rows, w, bias, K,
           rowCount, count, topK, softmaxFirst, normalise, Plan{experts, weights, starts, sorted, active},
           *reinterpret_cast<Space<Normed>*>(memory));
}
