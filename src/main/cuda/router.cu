// The router's product, the choice of experts and their plan in one kernel, for few rows; on request after the norm before it.
//
// Shapes    x [rows, K] bf16, W [E, K] bf16 row-major, b [E] float32 or null; the rest as experts.cuh and route.cu say.
//           rows <= 64, rows * topK <= 512, E <= 16 * blocks, K a multiple of 8; rows of x and W begin at multiples of
//           16 bytes. With the norm: [rows, cols] bf16 or float32 to add, the residual stream y likewise, K is cols rounded up to
//           a multiple of 8 and at most 4096; x is its result.
// How       A cluster of blocks, 16 experts each. A block's warps share K; weights go to registers before the wait for x,
//           as in matrix_few.cu. Logits meet in the shared memory of the first block, which chooses and plans.
//           The norm: either each block makes all rows' for itself, for very few rows, or they share the rows; its order is
//           that of elements.cu. y is written when all have read it.
// Bytes     W once, x once per block; nothing next to what the experts read. Latency is what counts.
// Order     of a sum: k steps, then warps; the same whatever rows there are.

#include "norm.cuh"
#include "route.cuh"

namespace {

constexpr int WARPS = 16;
constexpr int THREADS = WARPS * WARP;
constexpr int FEATURES = 16;
constexpr int STEP = 32;   // of k that a lane's 16 bytes belong to
constexpr int AHEAD = 6;   // steps whose weights are loaded before the first is used: all, up to K = 3072
constexpr int TILE = 8;    // rows that one mma takes
constexpr int TILES = 2;   // of a pass
constexpr int STRIDE = FEATURES + 4;
constexpr int MOST = 8 * FEATURES;

struct Space {
    float logits[PLAN_ROWS][MOST];
    float partials[WARPS][TILES * TILE][STRIDE];
    PlanSpace<WARPS> plan;
};

constexpr int SIDES = WARPS;  // rows whose norms a block makes side by side, at most
constexpr int ROW_PADDING = 32;  // of rows in shared memory
constexpr int DEEP = 2;       // such rows of a warp

struct NormSpace {
    Space space;
    float squares[2][DEEP][SIDES][NORM_WARPS];
};

static_assert(sizeof(Space) == 70720 && sizeof(NormSpace) == 74816, "as RoutingOps has it");

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

enum class Before { NOTHING, OWN_NORMS, SHARED_NORMS };

struct Weights {
    uint4 values[AHEAD][2];

    __device__ __forceinline__ void load(const __nv_bfloat16* w, int K, int from, int to, int features) {
        const int lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
#pragma unroll
        for (int s = 0; s < AHEAD; s++) {
            const int k = from + s * STEP + 8 * c;
#pragma unroll
            for (int h = 0; h < 2; h++)
                values[s][h] = k < to && h * 8 + g < features
                    ? loadWeights(reinterpret_cast<const uint4*>(w + static_cast<long long>(h * 8 + g) * K + k))
                    : uint4{};
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

// The norms of rows first, first + by, ...: as many at once as the block has warps for, twice. into: null, or where they go in
// this order. stores: y too is written, which no other block may read.
__device__ __forceinline__ void norms(const Norm& norm, const float (&scale)[VECTOR], int rows, int first, int by,
                                      float (&squares)[2][DEEP][SIDES][NORM_WARPS], bool stores, bool writes,
                                      __nv_bfloat16* into, int stride) {
    const int end = vectors(norm.cols), warps = (end + WARP - 1) / WARP, sides = WARPS / warps;
    const int warp = threadIdx.x / WARP, side = warp / warps, part = warp % warps;
    const int vector = part * WARP + threadIdx.x % WARP;
    const int count = (rows - first + by - 1) / by;
    for (int begin = 0, turn = 0; begin < count; begin += DEEP * sides, turn ^= 1) {
        float v[DEEP][VECTOR] = {};
        bool present[DEEP];
#pragma unroll
        for (int d = 0; d < DEEP; d++) {
            const int i = begin + d * sides + side;
            present[d] = side < sides && i < count && vector < end;
            if (present[d]) sumOf(norm, first + i * by, vector, v[d]);
        }
#pragma unroll
        for (int d = 0; d < DEEP; d++) {
            const int row = first + (begin + d * sides + side) * by;
            if (stores && present[d])
                storeVector(rowOf(norm.y, norm.yStride, row, norm.yWide), vector, norm.yWide, v[d]);
            maskTail(vector, norm.cols, v[d]);
            const float own = sumOfWarp(squaresOf(v[d]));
            if (side < sides && threadIdx.x % WARP == 0) squares[turn][d][side][part] = own;
        }
        __syncthreads();
#pragma unroll
        for (int d = 0; d < DEEP; d++) {
            if (!present[d]) continue;
            const int i = begin + d * sides + side;
            const float factor = 1 / sqrtf(sumOfWarps(squares[turn][d][side]) / norm.cols + norm.eps);
#pragma unroll
            for (int k = 0; k < VECTOR; k++) v[d][k] = v[d][k] * factor * scale[k];
            maskTail(vector, norm.cols, v[d]);
            const uint4 packed = pack(v[d]);
            if (into != nullptr) *reinterpret_cast<uint4*>(into + i * stride + vector * VECTOR) = packed;
            if (writes) reinterpret_cast<uint4*>(norm.out + (first + i * by) * norm.outStride)[vector] = packed;
        }
    }
}

// y += x, by all blocks but the first, which has other things to do.
__device__ __forceinline__ void writeSums(const Norm& norm, int rows) {
    const int end = vectors(norm.cols), blocks = gridDim.x - 1;
    for (int i = (blockIdx.x - (blocks > 0)) * THREADS + threadIdx.x; i < rows * end; i += max(blocks, 1) * THREADS) {
        const int row = i / end, vector = i - row * end;
        float v[VECTOR];
        sumOf(norm, row, vector, v);
        storeVector(rowOf(norm.y, norm.yStride, row, norm.yWide), vector, norm.yWide, v);
    }
}

template <Before BEFORE>
__device__ __forceinline__ void choose(const Norm& norm, const __nv_bfloat16* x, long long xStride, int rows,
                                       const __nv_bfloat16* w, const float* bias, int K, const int* rowCount, int count,
                                       int topK, int softmaxFirst, int normalise, const Plan& plan, Space& space) {
    allowNextKernel();
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int steps = (K + STEP - 1) / STEP, share = (steps + WARPS - 1) / WARPS;
    const int from = warp * share * STEP, to = min(K, from + share * STEP);
    const int first = blockIdx.x * FEATURES, features = min(FEATURES, count - first);
    const __nv_bfloat16* own = w + static_cast<long long>(first) * K;
    const int f = threadIdx.x % FEATURES;  // whose partial sums the thread adds
    const float shift = bias != nullptr && f < features ? __ldg(bias + first + f) : 0;
    float scale[VECTOR] = {};
    float(&squares)[2][DEEP][SIDES][NORM_WARPS] = reinterpret_cast<NormSpace&>(space).squares;
    if constexpr (BEFORE != Before::NOTHING) {
        const int end = vectors(norm.cols), vector = threadIdx.x % ((end + WARP - 1) / WARP * WARP);
        if (vector < end) loadVector(reinterpret_cast<const char*>(norm.weight), vector, true, scale);
        for (int i = threadIdx.x; i < 2 * DEEP * SIDES * NORM_WARPS; i += THREADS) (&squares[0][0][0][0])[i] = 0;
    }
    Weights loaded;
    loaded.load(own, K, from, to, features);
    clusterBarrier();  // the first block has begun: its memory may be written
    awaitPreviousKernel();
    if constexpr (BEFORE == Before::OWN_NORMS) {
        __nv_bfloat16* normed = reinterpret_cast<__nv_bfloat16*>(&reinterpret_cast<NormSpace&>(space) + 1);
        norms(norm, scale, rows, 0, 1, squares, false, blockIdx.x == gridDim.x - 1, normed, K + ROW_PADDING);
        x = normed, xStride = K + ROW_PADDING;
        __syncthreads();
    } else if constexpr (BEFORE == Before::SHARED_NORMS) {
        norms(norm, scale, rows, blockIdx.x, gridDim.x, squares, true, true, nullptr, 0);
        x = norm.out, xStride = norm.outStride;
        clusterBarrier();
    }

    for (int row = 0; row < rows; row += TILES * TILE) {
        float d[TILES][4] = {};
        for (int k = from; k < to; k += AHEAD * STEP) {
            if (row > 0 || k > from) loaded.load(own, K, k, to, features);
#pragma unroll
            for (int s = 0; s < AHEAD; s++) {
                const int at = k + s * STEP + 8 * c;
#pragma unroll
                for (int t = 0; t < TILES; t++) {
                    const int r = row + t * TILE + g;
                    const uint4 v = r < rows && at < to
                        ? *reinterpret_cast<const uint4*>(x + r * xStride + at) : uint4{};
                    const uint4(&a)[2] = loaded.values[s];
                    mma(d[t], uint4{a[0].x, a[1].x, a[0].y, a[1].y}, v.x, v.y);
                    mma(d[t], uint4{a[0].z, a[1].z, a[0].w, a[1].w}, v.z, v.w);
                }
            }
        }
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            float* mine = &space.partials[warp][t * TILE + 2 * c][g];
            mine[0] = d[t][0], mine[STRIDE] = d[t][1], mine[8] = d[t][2], mine[STRIDE + 8] = d[t][3];
        }
        __syncthreads();
        const int r = threadIdx.x / FEATURES;
        if (r < TILES * TILE && row + r < rows && f < features) {
            float sum = 0;
#pragma unroll
            for (int v = 0; v < WARPS; v++) sum += space.partials[v][r][f];
            if (bias != nullptr) sum += shift;
            storeToBlock(&space.logits[row + r][first + f], 0, sum);
        }
        __syncthreads();
    }
    clusterBarrier();
    if constexpr (BEFORE == Before::OWN_NORMS) {
        if (blockIdx.x > 0 || gridDim.x == 1) writeSums(norm, rows);
    }
    if (blockIdx.x != 0) return;
    const int present = rowCount != nullptr ? min(rows, *rowCount) : rows;
    chooseAndPlan(&space.logits[0][0], MOST, rows, present, count, topK, softmaxFirst, normalise, space.plan,
                  plan);
}

}  // namespace

// Grid and cluster (E / 16 rounded up), 512 threads, sizeof(Space) bytes of dynamic shared memory.
extern "C" __global__ void __launch_bounds__(THREADS)
    route_from(const __nv_bfloat16* x, long long xStride, int rows, const __nv_bfloat16* w, const float* bias, int K,
               const int* rowCount, int count, int topK, int softmaxFirst, int normalise, int* experts, float* weights,
               int* starts, int* sorted, int* active) {
    extern __shared__ float4 memory[];
    choose<Before::NOTHING>(Norm{}, x, xStride, rows, w, bias, K, rowCount, count, topK, softmaxFirst, normalise,
                            Plan{experts, weights, starts, sorted, active}, *reinterpret_cast<Space*>(memory));
}

// The same of a norm's result. sizeof(NormSpace) bytes of dynamic shared memory; norm_route_own: and (K + 32) * 2 per row.
#define NORM_ROUTE(NAME, BEFORE)                                                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                                 \
        NAME(const void* x, long long xStride, int xWide, void* y, long long yStride, int yWide, const float* weight,     \
             int cols, float eps, __nv_bfloat16* out, long long outStride, int rows, const __nv_bfloat16* w,              \
             const float* bias, int K, const int* rowCount, int count, int topK, int softmaxFirst, int normalise,         \
             int* experts, float* weights, int* starts, int* sorted, int* active) {                                       \
        extern __shared__ float4 memory[];                                                                                \
        choose<BEFORE>(Norm{x, xStride, xWide, y, yStride, yWide, weight, cols, eps, out, outStride}, nullptr, 0, rows,   \
                       w, bias, K, rowCount, count, topK, softmaxFirst, normalise,                                        \
                       Plan{experts, weights, starts, sorted, active}, *reinterpret_cast<Space*>(memory));                \
    }
NORM_ROUTE(norm_route_own, Before::OWN_NORMS)
NORM_ROUTE(norm_route_shared, Before::SHARED_NORMS)
