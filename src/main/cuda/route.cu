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
    routeAny<MAX_EXPERTS>(logits + static_cast<long long>(row) * stride, count, topK, softmaxFirst, normalise,
                          experts + row * topK, weights + row * topK);
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

// Plans any number of rows in two launches of a block per PLAN_THREADS routed rows, a thread each: plan_count, then
// plan_fill. counts [blocks][count] of workspace: rows of each expert among a block's.
extern "C" __global__ void __launch_bounds__(PLAN_THREADS)
    plan_count(const int* experts, int routed, int count, int* counts) {
    __shared__ int rows[MAX_EXPERTS];
    for (int e = threadIdx.x; e < MAX_EXPERTS; e += blockDim.x) rows[e] = 0;
    awaitPreviousKernel();
    allowNextKernel();
    const int i = blockIdx.x * PLAN_THREADS + threadIdx.x;
    const int mine = i < routed ? experts[i] : -1;
    __syncthreads();
    if (mine >= 0) atomicAdd(rows + mine, 1);
    __syncthreads();
    for (int e = threadIdx.x; e < count; e += blockDim.x) counts[blockIdx.x * count + e] = rows[e];
}

extern "C" __global__ void __launch_bounds__(PLAN_THREADS)
    plan_fill(const int* experts, int routed, const int* counts, int count, int* starts, int* sorted, int* active) {
    constexpr int PARTS = PLAN_THREADS / MAX_EXPERTS;      // threads that add up an expert's counts
    __shared__ int all[PARTS][MAX_EXPERTS], earlier[PARTS][MAX_EXPERTS];
    __shared__ unsigned short before[PLAN_THREADS / WARP][MAX_EXPERTS];  // the block's rows in earlier warps
    __shared__ int firsts[MAX_EXPERTS];                    // place of the block's first row of each expert
    __shared__ int totals[MAX_EXPERTS / WARP][2];
    awaitPreviousKernel();
    allowNextKernel();
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int i = blockIdx.x * PLAN_THREADS + threadIdx.x;
    const int mine = i < routed ? experts[i] : -1;
    for (int e = lane; e < count; e += WARP) before[warp][e] = 0;
    const int e = threadIdx.x % MAX_EXPERTS, part = threadIdx.x / MAX_EXPERTS;
    int own = 0, ours = 0;
    if (e < count) {
#pragma unroll 8
        for (int b = part; b < static_cast<int>(gridDim.x); b += PARTS) {
            const int here = counts[b * count + e];
            own += here;
            if (b < static_cast<int>(blockIdx.x)) ours += here;
        }
    }
    all[part][e] = own, earlier[part][e] = ours;
    __syncwarp();
    const unsigned same = __match_any_sync(ALL, mine);
    const int rank = __popc(same & ((1u << lane) - 1));
    if (mine >= 0 && rank == 0) before[warp][mine] = __popc(same);
    __syncthreads();
    int first = 0, present = 0;
    if (part == 0) {
        own = ours = 0;
#pragma unroll
        for (int p = 0; p < PARTS; p++) own += all[p][e], ours += earlier[p][e];
        first = own, present = own > 0;
#pragma unroll
        for (int d = 1; d < WARP; d *= 2) {
            const int a = __shfl_up_sync(ALL, first, d), b = __shfl_up_sync(ALL, present, d);
            if (lane >= d) first += a, present += b;
        }
        if (lane == WARP - 1) totals[warp][0] = first, totals[warp][1] = present;
    } else if (part == 1 && e < count) {
        int sum = 0;
        for (int w = 0; w < PLAN_THREADS / WARP; w++) {
            const int here = before[w][e];
            before[w][e] = sum;
            sum += here;
        }
    }
    __syncthreads();
    if (part == 0 && e < count) {
        for (int w = 0; w < warp; w++) first += totals[w][0], present += totals[w][1];
        firsts[e] = first - own + ours;
        if (blockIdx.x == 0) {
            if (e == 0) starts[0] = 0;
            starts[e + 1] = first;
            if (own > 0) active[present] = e;
            if (e == count - 1) active[0] = present;
        }
    }
    __syncthreads();
    if (mine >= 0) sorted[firsts[mine] + before[warp][mine] + rank] = i;
}
