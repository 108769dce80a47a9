// One row's choice of experts, and the plan of few rows within a block: what the kernels of route.cu and router.cu share.

#pragma once

#include "device.cuh"
#include "experts.cuh"

constexpr int PLAN_THREADS = 1024;
constexpr int PLAN_ROWS = 64;  // that one block plans
constexpr int PER_LANE = MAX_EXPERTS / WARP;
constexpr unsigned ALL = ~0u;

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

// One warp chooses for one row. Lane l holds experts l, l + 32, ..., best first. PER: of a lane.
template <int PER>
__device__ __forceinline__ void routeRow(const float* logits, int count, int topK, bool softmaxFirst, bool normalise,
                                         int* experts, float* weights) {
    const int lane = threadIdx.x % WARP;
    unsigned keys[PER];  // ordered as the values are; 0 where there is no expert, or none any more
    int own[PER];
#pragma unroll
    for (int i = 0; i < PER; i++) {
        own[i] = lane + i * WARP;
        keys[i] = own[i] < count ? orderedKey(logits[own[i]]) : 0;
    }
#pragma unroll
    for (int end = PER - 1; end > 0; end--)
#pragma unroll
        for (int i = 0; i < end; i++)
            if (keys[i + 1] > keys[i]) {
                const unsigned key = keys[i];
                const int expert = own[i];
                keys[i] = keys[i + 1], own[i] = own[i + 1];
                keys[i + 1] = key, own[i + 1] = expert;
            }
    float mine = 0;  // of the choice that this lane writes
    int choice = 0;
    float kept = 0, most = 0;
    for (int j = 0; j < topK; j++) {
        const unsigned highest = __reduce_max_sync(ALL, keys[0]);
        bool winner = keys[0] == highest;
        unsigned winners = __ballot_sync(ALL, winner);
        if (winners & (winners - 1)) {  // of equals the lowest
            winner = __reduce_min_sync(ALL, winner ? own[0] : MAX_EXPERTS) == own[0];
            winners = __ballot_sync(ALL, winner);
        }
        const int at = __shfl_sync(ALL, own[0], __ffs(winners) - 1);
        if (winner) {
#pragma unroll
            for (int i = 0; i + 1 < PER; i++) keys[i] = keys[i + 1], own[i] = own[i + 1];
            keys[PER - 1] = 0;
        }
        if (j == 0) most = valueOf(highest);
        const float weight = expf(valueOf(highest) - most);
        kept += weight;
        if (lane == j) mine = weight, choice = at;
    }
    if (softmaxFirst && !normalise) {
        kept = 0;
#pragma unroll
        for (int i = 0; i < PER; i++)
            if (lane + i * WARP < count) kept += expf(logits[lane + i * WARP] - most);
        kept = warpSum(kept);
    }
    if (lane < topK) {
        experts[lane] = choice;
        weights[lane] = mine / kept;
    }
}

// The same, at most MOST experts.
template <int MOST>
__device__ __forceinline__ void routeAny(const float* logits, int count, int topK, bool softmaxFirst, bool normalise,
                                         int* experts, float* weights) {
    if (MOST <= MAX_EXPERTS / 2 || count <= MAX_EXPERTS / 2) {
        routeRow<PER_LANE / 2>(logits, count, topK, softmaxFirst, normalise, experts, weights);
    } else {
        routeRow<PER_LANE>(logits, count, topK, softmaxFirst, normalise, experts, weights);
    }
}

// Where one block chooses and plans. WARPS: of the block.
template <int WARPS, int ROWS = PLAN_ROWS>
struct PlanSpace {
    alignas(16) int chosen[ROWS * MAX_CHOICES];
    float weights[ROWS * MAX_CHOICES];
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

// The plan of one row, whose choices differ; present: 0 if it is padding. By a block with a thread per expert.
__device__ __forceinline__ void planOne(const int (&chosen)[MAX_CHOICES], const float* weights, int present, int count,
                                        int topK, const Plan& plan) {
    const int i = threadIdx.x;
    const int mine = i < topK && present > 0 ? chosen[i] : -1;
    int upTo = 0, below = 0;  // choices up to expert i, and below the thread's choice
#pragma unroll
    for (int j = 0; j < MAX_CHOICES; j++) {
        const bool exists = j < topK && present > 0;
        upTo += exists && chosen[j] <= i;
        below += exists && chosen[j] < mine;
    }
    const bool wanted = plan.starts != nullptr;
    if (wanted && i < count) plan.starts[i + 1] = upTo;
    if (wanted && i == 0) plan.starts[0] = 0, plan.active[0] = present > 0 ? topK : 0;
    if (i < topK) {
        plan.experts[i] = mine;
        plan.weights[i] = mine >= 0 ? weights[i] : 0;
        if (wanted && mine >= 0) plan.sorted[below] = i, plan.active[below + 1] = mine;
    }
}

// Chooses for `rows` rows, of which `present` are not padding, and plans. By a whole block of at most WARPS warps with a
// thread per routed row and per expert, of which there are at most MOST. logits: global or shared memory. starts
// null: no plan is wanted.
template <int MOST = MAX_EXPERTS, int WARPS, int ROWS>
__device__ __forceinline__ void chooseAndPlan(const float* logits, int stride, int rows, int present, int count, int topK,
                                              bool softmaxFirst, bool normalise, PlanSpace<WARPS, ROWS>& space,
                                              const Plan& plan) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    // Padded rows too, to no effect: so logits need not wait for the number of rows.
    for (int row = warp; row < rows; row += blockDim.x / WARP)
        routeAny<MOST>(logits + static_cast<long long>(row) * stride, count, topK, softmaxFirst, normalise,
                       space.chosen + row * topK, space.weights + row * topK);
    if (rows == 1) {
        __syncthreads();
        planOne(reinterpret_cast<const int(&)[MAX_CHOICES]>(space.chosen), space.weights, present, count, topK, plan);
        return;
    }
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
