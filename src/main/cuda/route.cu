// Chooses experts from router logits and plans the expert products.
//
// Shapes    logits [rows, E] float32 with a stride; the rest as experts.cuh says. E <= 256, topK <= 16 and E.
// Meaning   softmaxFirst: softmax over all E, the topK largest kept, divided by their sum if normalise; otherwise a
//           softmax over the topK largest logits. Equal logits: the lower expert first.
// Bytes     logits once; nothing else counts.

#include "route.cuh"

namespace {

constexpr int ROUTE_THREADS = 256;

}  // namespace

// Grid (rows / warps). Padded rows (>= *rowCount) choose nothing.
extern "C" __global__ void __launch_bounds__(ROUTE_THREADS)
    route_rows(const float* logits, int stride, int rows, const int* rowCount, int count, int topK, int softmaxFirst,
               int normalise, int* experts, float* weights) {
    awaitPreviousKernel();
    allowNextKernel();
    const int row = blockIdx.x * (ROUTE_THREADS / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    if (rowCount != nullptr && row >= *rowCount) {
        if (lane < topK) experts[row * topK + lane] = -1, weights[row * topK + lane] = 0;
        return;
    }
    routeRow(logits + static_cast<long long>(row) * stride, count, topK, softmaxFirst, normalise, experts + row * topK,
             weights + row * topK);
}

// Grid (1), max(256, rows * topK) threads or more, so that there are warps for the rows: all of it for at most 64 rows.
extern "C" __global__ void __launch_bounds__(PLAN_THREADS)
    route_few(const float* logits, int stride, int rows, const int* rowCount, int count, int topK, int softmaxFirst,
              int normalise, int* experts, float* weights, int* starts, int* sorted, int* active) {
    __shared__ PlanSpace<PLAN_THREADS / WARP> space;
    awaitPreviousKernel();
    allowNextKernel();
    const int present = rowCount != nullptr ? min(rows, *rowCount) : rows;
    chooseAndPlan(logits, stride, rows, present, count, topK, softmaxFirst, normalise, space,
                  Plan{experts, weights, starts, sorted, active});
}

// Plans any number of rows in two launches of one block per expert: plan_count, then plan_fill.
// counts [E] of workspace.
extern "C" __global__ void __launch_bounds__(PLAN_THREADS) plan_count(const int* experts, int routed, int* counts) {
    __shared__ int sums[PLAN_THREADS / WARP];
    awaitPreviousKernel();
    allowNextKernel();
    int own = 0;
    for (int i = threadIdx.x; i < routed; i += PLAN_THREADS) own += experts[i] == static_cast<int>(blockIdx.x);
    own = __reduce_add_sync(ALL, own);
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = own;
    __syncthreads();
    if (threadIdx.x < WARP) {
        own = __reduce_add_sync(ALL, sums[threadIdx.x]);
        if (threadIdx.x == 0) counts[blockIdx.x] = own;
    }
}

extern "C" __global__ void __launch_bounds__(PLAN_THREADS)
    plan_fill(const int* experts, int routed, const int* counts, int count, int* starts, int* sorted, int* active) {
    __shared__ int sums[PLAN_THREADS / WARP];
    awaitPreviousKernel();
    allowNextKernel();
    const int e = blockIdx.x, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int start = 0, before = 0;
    for (int i = 0; i < e; i++) start += counts[i], before += counts[i] > 0;
    const int own = counts[e];
    if (threadIdx.x == 0) {
        starts[e] = start;
        if (own > 0) active[1 + before] = e;
        if (e == count - 1) starts[count] = start + own, active[0] = before + (own > 0);
    }
    if (own == 0) return;
    for (int first = 0; first < routed; first += PLAN_THREADS) {
        const int i = first + threadIdx.x;
        const bool mine = i < routed && experts[i] == e;
        const unsigned ballot = __ballot_sync(ALL, mine);
        if (lane == 0) sums[warp] = __popc(ballot);
        __syncthreads();
        int at = start, all = 0;
        for (int w = 0; w < PLAN_THREADS / WARP; w++) {
            if (w < warp) at += sums[w];
            all += sums[w];
        }
        if (mine) sorted[at + __popc(ballot & ((1u << lane) - 1))] = i;
        start += all;
        __syncthreads();
    }
}
