// The router's product, the choice of experts and their plan in one kernel, for few rows.
//
// Shapes    x [rows, K] bf16, W [E, K] bf16 row-major, b [E] float32 or null; the rest as experts.cuh and route.cu say.
//           rows <= 64, rows * topK <= 512, E <= 16 * blocks, K a multiple of 8; rows of x and W begin at multiples of
//           16 bytes.
// How       A cluster of blocks, 16 experts each. A block's warps share K; weights go to registers before the wait for x,
//           as in matrix_few.cu. Logits meet in the shared memory of the first block, which chooses and plans.
// Bytes     W once, x once per block; nothing next to what the experts read. Latency is what counts.
// Order     of a sum: k steps, then warps; the same whatever rows there are.

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

static_assert(sizeof(Space) == 70720, "as RoutingOps has it");

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

}  // namespace

// Grid and cluster (E / 16 rounded up), 512 threads, sizeof(Space) bytes of dynamic shared memory.
extern "C" __global__ void __launch_bounds__(THREADS)
    route_from(const __nv_bfloat16* x, long long xStride, int rows, const __nv_bfloat16* w, const float* bias, int K,
               const int* rowCount, int count, int topK, int softmaxFirst, int normalise, int* experts, float* weights,
               int* starts, int* sorted, int* active) {
    extern __shared__ float4 memory[];
    Space& space = *reinterpret_cast<Space*>(memory);
    allowNextKernel();
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int steps = (K + STEP - 1) / STEP, share = (steps + WARPS - 1) / WARPS;
    const int from = warp * share * STEP, to = min(K, from + share * STEP);
    const int first = blockIdx.x * FEATURES, features = min(FEATURES, count - first);
    const __nv_bfloat16* own = w + static_cast<long long>(first) * K;
    Weights loaded;
    loaded.load(own, K, from, to, features);
    clusterBarrier();  // the first block has begun: its memory may be written
    awaitPreviousKernel();

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
        const int r = threadIdx.x / FEATURES, f = threadIdx.x % FEATURES;
        if (r < TILES * TILE && row + r < rows && f < features) {
            float sum = 0;
#pragma unroll
            for (int v = 0; v < WARPS; v++) sum += space.partials[v][r][f];
            if (bias != nullptr) sum += __ldg(bias + first + f);
            storeToBlock(&space.logits[row + r][first + f], 0, sum);
        }
        __syncthreads();
    }
    clusterBarrier();
    if (blockIdx.x != 0) return;
    const int present = rowCount != nullptr ? min(rows, *rowCount) : rows;
    chooseAndPlan(&space.logits[0][0], MOST, rows, present, count, topK, softmaxFirst, normalise, space.plan,
                  Plan{experts, weights, starts, sorted, active});
}
