// One row's choice of experts, and the plan of few rows within a block: what the kernels of route.cu and router.cu share.

#pragma once

#include "device.cuh"
#include "experts.cuh"

constexpr int PLAN_THREADS = 1024;
constexpr int PLAN_ROWS = 64;  // that one block plans
constexpr int PER_LANE = MAX_EXPERTS / WARP;
constexpr unsigned ALL = ~0u;

__device__ __forceinline__ float warpMax(float v) {
#pragma unroll
    for (int i = WARP / 2; i > 0; i /= 2) v = fmaxf(v, __shfl_xor_sync(ALL, v, i));
    return v;
}

__device__ __forceinline__ float warpSum(float v) {
#pragma unroll
    for (int i = WARP / 2; i > 0; i /= 2) v += __shfl_xor_sync(ALL, v, i);
    return v;
}

// A key above 0 that orders as v does; both zeros have the same.
__device__ __forceinline__ unsigned orderedKey(float v) {
    const unsigned bits = __float_as_uint(v + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float valueOf(unsigned key) {
    return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

// One warp chooses for one row. Lane l holds experts l, l + 32, ...
__device__ void routeRow(const float* logits, int count, int topK, bool softmaxFirst, bool normalise, int* experts,
                         float* weights) {
    const int lane = threadIdx.x % WARP;
    float values[PER_LANE];
    float most = -INFINITY;
#pragma unroll
    for (int i = 0; i < PER_LANE; i++) {
        values[i] = lane + i * WARP < count ? logits[lane + i * WARP] : -INFINITY;
        most = fmaxf(most, values[i]);
    }
    most = warpMax(most);
    float total = 0;
    if (softmaxFirst) {
#pragma unroll
        for (int i = 0; i < PER_LANE; i++)
            if (lane + i * WARP < count) total += expf(values[i] - most);
        total = warpSum(total);
    }
    unsigned keys[PER_LANE];  // ordered as the values are; 0 once taken, and where there is no expert
#pragma unroll
    for (int i = 0; i < PER_LANE; i++) keys[i] = lane + i * WARP < count ? orderedKey(values[i]) : 0;
    float mine = 0;  // of the choice that this lane writes
    int choice = 0;
    float kept = 0;
    for (int j = 0; j < topK; j++) {
        unsigned best = 0;
        int slot = 0;
#pragma unroll
        for (int i = 0; i < PER_LANE; i++)
            if (keys[i] > best) best = keys[i], slot = i;
        const unsigned highest = __reduce_max_sync(ALL, best);
        const unsigned own = lane + slot * WARP;
        const unsigned at = __reduce_min_sync(ALL, best == highest ? own : MAX_EXPERTS);
        if (at == own) {
#pragma unroll
            for (int i = 0; i < PER_LANE; i++)
                if (i == slot) keys[i] = 0;
        }
        const float weight = expf(valueOf(highest) - most);
        kept += weight;
        if (lane == j) mine = weight, choice = at;
    }
    if (lane < topK) {
        experts[lane] = choice;
        weights[lane] = softmaxFirst ? (normalise ? mine / kept : mine / total) : mine / kept;
    }
}

// Where one block chooses and plans. WARPS: of the block.
template <int WARPS>
struct PlanSpace {
    int chosen[PLAN_ROWS * MAX_CHOICES];
    float weights[PLAN_ROWS * MAX_CHOICES];
    unsigned short before[WARPS][MAX_EXPERTS];  // rows of an expert in earlier warps
    int firsts[MAX_EXPERTS];
    int totals[MAX_EXPERTS / WARP][2];
};

struct Plan {
    int* experts;
    float* weights;
    int* starts;
    int* sorted;
    int* active;
};

// Chooses for `rows` rows, of which `present` are not padding, and plans. By a whole block of at most WARPS warps with a
// thread per routed row and per expert. logits: global or shared memory. starts null: no plan is wanted.
template <int WARPS>
__device__ __forceinline__ void chooseAndPlan(const float* logits, int stride, int rows, int present, int count, int topK,
                                              bool softmaxFirst, bool normalise, PlanSpace<WARPS>& space,
                                              const Plan& plan) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    // Padded rows too, to no effect: so logits need not wait for the number of rows.
    for (int row = warp; row < rows; row += blockDim.x / WARP)
        routeRow(logits + static_cast<long long>(row) * stride, count, topK, softmaxFirst, normalise,
                 space.chosen + row * topK, space.weights + row * topK);
    for (int e = lane; e < count; e += WARP) space.before[warp][e] = 0;
    __syncthreads();
    // Thread i has routed row i.
    const int routed = present * topK, i = threadIdx.x;
    const int mine = i < routed ? space.chosen[i] : -1;
    if (i < rows * topK) {
        plan.experts[i] = mine;
        plan.weights[i] = i < routed ? space.weights[i] : 0;
    }
    if (plan.starts == nullptr) return;
    const unsigned same = __match_any_sync(ALL, mine);
    const int rank = __popc(same & ((1u << lane) - 1));
    if (mine >= 0 && rank == 0) space.before[warp][mine] = __popc(same);
    __syncthreads();
    const int e = threadIdx.x;
    int own = 0, first = 0, used = 0;
    if (e < MAX_EXPERTS) {
        for (int w = 0; w < (routed + WARP - 1) / WARP && e < count; w++) {
            const int here = space.before[w][e];
            space.before[w][e] = own;
            own += here;
        }
        first = own, used = own > 0;
#pragma unroll
        for (int d = 1; d < WARP; d *= 2) {
            const int a = __shfl_up_sync(ALL, first, d), b = __shfl_up_sync(ALL, used, d);
            if (lane >= d) first += a, used += b;
        }
        if (lane == WARP - 1) space.totals[warp][0] = first, space.totals[warp][1] = used;
    }
    __syncthreads();
    if (e < count) {
        for (int w = 0; w < warp; w++) first += space.totals[w][0], used += space.totals[w][1];
        plan.starts[e + 1] = first;
        space.firsts[e] = first - own;
        if (e == 0) plan.starts[0] = 0;
        if (own > 0) plan.active[used] = e;
        if (e == count - 1) plan.active[0] = used;
    }
    __syncthreads();
    if (mine >= 0) plan.sorted[space.firsts[mine] + space.before[warp][mine] + rank] = i;
}
