// What the LoRA kernels need for routed layers: lora_plan (few rows: lora_plan_few) sorts routed rows by (adapter, expert) and makes tiles of them,
// lora_combine sums the products of a row's choices.
//
// Shapes    routed row i = row * topK + choice; experts [rows * topK] int32, -1 for none, weights likewise float32 or null;
//           groupOf [rows] int32, the adapter's number in the batch, -1 for none; sites [groups], address of a LoraExpert per
//           expert, 0 for none.
// Limits    groups * experts counters of 4 bytes in shared memory, at most 2^15 of them (LoraTiling says why); routed rows below
//           2^21; rows of lora_combine up to 65,535, a block of y each.
// Bytes     experts and groupOf twice, what is written once: a few microseconds of latency, whatever the bandwidth.
// Order     of rows within an adapter and expert: any (counters are drawn atomically), which no result depends on.

#include "lora.cuh"

constexpr int PLAN_THREADS = 1024;
constexpr int COMBINE_THREADS = 128;
constexpr int TARGETS = 3;

// The tables of one expert's pairs; 0 for those that are not there.
struct LoraExpert {
    unsigned long long a;
    unsigned long long b[TARGETS];
};

__device__ __forceinline__ LoraExpert loadExpert(const LoraExpert* source) {
    union {
        ulonglong2 words[2];
        LoraExpert expert;
    } u;
    u.words[0] = __ldg(reinterpret_cast<const ulonglong2*>(source));
    u.words[1] = __ldg(reinterpret_cast<const ulonglong2*>(source) + 1);
    return u.expert;
}

// The same variable of another block of the cluster, as a generic address.
template <typename T>
__device__ __forceinline__ T* ofBlock(T* shared, unsigned rank) {
#if __CUDA_ARCH__ >= 900
    T* there;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(shared), "r"(rank));
    return there;
#else
    return shared;
#endif
}

__device__ __forceinline__ void prefetchTable(unsigned long long name, int bytes) {
    if (name == 0) return;
    const char* table = reinterpret_cast<const char*>(name & 0xFFFFFFFFFFFFull);
    for (int at = 0; at < bytes; at += 128) prefetchL2(table + at);
}

// Rows of a tile if so many are cut evenly: at most `most`, multiples of 8.
__device__ __forceinline__ int evenRows(int count, int most) {
    const int tiles = (count + most - 1) / most;
    return ((count + tiles - 1) / tiles + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
}

// Three sums in one: rows, tiles of the shrink kernel, tiles of the expand kernel.
constexpr int FIELD = 21;
constexpr unsigned long long FIELD_MASK = (1ull << FIELD) - 1;

__device__ __forceinline__ unsigned long long packSums(int rows, int shrinkRows, int expandRows) {
    return static_cast<unsigned long long>(rows) << 2 * FIELD |
           static_cast<unsigned long long>((rows + shrinkRows - 1) / shrinkRows) << FIELD | (rows + expandRows - 1) / expandRows;
}

// What lies before this thread in the block; total: of the block.
__device__ __forceinline__ unsigned long long scanBlock(unsigned long long value, unsigned long long* warpSums,
                                                        unsigned long long& total) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    unsigned long long sum = value;
#pragma unroll
    for (int d = 1; d < WARP; d *= 2) {
        const unsigned long long other = __shfl_up_sync(0xFFFFFFFF, sum, d);
        if (lane >= d) sum += other;
    }
    if (lane == WARP - 1) warpSums[warp] = sum;
    __syncthreads();
    unsigned long long before = 0;
    total = 0;
#pragma unroll
    for (int w = 0; w < PLAN_THREADS / WARP; w++) {
        if (w * WARP >= blockDim.x) break;
        if (w < warp) before += warpSums[w];
        total += warpSums[w];
    }
    return before + sum - value;
}

// For at most as many routed rows as a block has threads, each of which keeps what it knows of its row. groups * experts * 12 bytes of
// shared memory; otherwise as lora_plan.
extern "C" __global__ void __launch_bounds__(PLAN_THREADS, 1)
    lora_plan_few(const int* groupOf, const unsigned long long* sites, const int* experts, const float* weights, int routed,
                  int topK, int groups, int expertCount, int targets, int xPerChoice, int shrinkRows, int shrinkTiles,
                  int expandRows, int expandTiles, int tableA, int tableB, int* xRows, int* yRows, float* factors,
                  unsigned char* hits, int2* shrink, unsigned long long* shrinkNames, int2* expand,
                  unsigned long long* expandNames) {
    extern __shared__ unsigned long long bases[];  // rows and tiles before each pair
    __shared__ unsigned long long warpSums[PLAN_THREADS / WARP];
    const int pairs = groups * expertCount;
    int* counts = reinterpret_cast<int*>(bases + pairs);
    const int i = threadIdx.x;
    const int group = i < routed ? loadInt(groupOf + i / topK) : -1;
    const auto* site = group >= 0 ? reinterpret_cast<const LoraExpert*>(loadWord(sites + group)) : nullptr;
    for (int p = i; p < pairs; p += blockDim.x) counts[p] = 0;
    __syncthreads();
    awaitPreviousKernel();
    allowNextKernel();

    const int expert = group >= 0 ? loadInt(experts + i) : -1;
    const float weight = weights && i < routed ? loadFactor(weights + i) : 0;
    const int pair = expert >= 0 ? group * expertCount + expert : -1;
    const LoraExpert names = pair >= 0 && site ? loadExpert(site + expert) : LoraExpert{};  // used after the scan
    const int slot = pair >= 0 ? atomicAdd(counts + pair, 1) : 0;
    __syncthreads();
    const int share = (pairs + blockDim.x - 1) / blockDim.x;
    const int begin = min(pairs, i * share), end = min(pairs, begin + share);
    unsigned long long mine = 0;
    for (int p = begin; p < end; p++) mine += packSums(counts[p], shrinkRows, expandRows);
    unsigned long long all;
    unsigned long long before = scanBlock(mine, warpSums, all);
    for (int p = begin; p < end; p++) {
        bases[p] = before;
        before += packSums(counts[p], shrinkRows, expandRows);
    }
    __syncthreads();

    if (pair >= 0) {
        const unsigned long long base = bases[pair];
        const int row = static_cast<int>(base >> 2 * FIELD), count = counts[pair];
        // The thread with the first row of a tile writes it.
        int size = evenRows(count, shrinkRows);
        if (slot % size == 0) {
            const int at = static_cast<int>(base >> FIELD & FIELD_MASK) + slot / size;
            shrink[at] = int2{row + slot, min(size, count - slot)};
            shrinkNames[at] = names.a;
        }
        size = evenRows(count, expandRows);
        if (slot % size == 0) {
            const int at = static_cast<int>(base & FIELD_MASK) + slot / size;
            expand[at] = int2{row + slot, min(size, count - slot)};
#pragma unroll
            for (int t = 0; t < TARGETS; t++)
                if (t < targets) expandNames[t * expandTiles + at] = names.b[t];
        }
        xRows[row + slot] = xPerChoice ? i : i / topK;
        yRows[row + slot] = i;
        if (weights) factors[row + slot] = weight;
        if (slot == 0) {
            prefetchTable(names.a, tableA * static_cast<int>(names.a >> 48 & 0xFF));
#pragma unroll
            for (int t = 0; t < TARGETS; t++)
                if (t < targets) prefetchTable(names.b[t], tableB);
        }
    }
    if (hits && i < routed) hits[i] = names.b[0] != 0;
    for (int k = static_cast<int>(all >> FIELD & FIELD_MASK) + i; k < shrinkTiles; k += blockDim.x) {
        shrink[k] = int2{};
        shrinkNames[k] = 0;
    }
    for (int k = static_cast<int>(all & FIELD_MASK) + i; k < expandTiles; k += blockDim.x) {
        expand[k] = int2{};
        for (int t = 0; t < targets; t++) expandNames[t * expandTiles + k] = 0;
    }
}

// One cluster of blocks; groups * experts * 4 bytes of shared memory. xPerChoice: x has a row per choice. Tiles beyond
// the last are set to 0 rows, up to shrinkTiles and expandTiles. names: of A, then of B per target, as many as tiles.
// hits [routed]: whether the first target is there, or null. tableA, tableB: bytes of tables, to fetch them beforehand (per rank
// block of A).
extern "C" __global__ void __launch_bounds__(PLAN_THREADS, 1)
    lora_plan(const int* groupOf, const unsigned long long* sites, const int* experts, const float* weights, int routed,
              int topK, int groups, int expertCount, int targets, int xPerChoice, int shrinkRows, int shrinkTiles,
              int expandRows, int expandTiles, int tableA, int tableB, int* xRows, int* yRows, float* factors,
              unsigned char* hits, int2* shrink, unsigned long long* shrinkNames, int2* expand,
              unsigned long long* expandNames) {
    extern __shared__ int counts[];
    __shared__ unsigned long long warpSums[PLAN_THREADS / WARP];
    __shared__ unsigned long long blockSum;
    const int pairs = groups * expertCount;
    const int blocks = clusterSize(), rank = clusterRank();
    for (int i = threadIdx.x; i < pairs; i += PLAN_THREADS) counts[i] = 0;
    __syncthreads();
    awaitPreviousKernel();
    allowNextKernel();

    const int from = static_cast<int>(static_cast<long long>(routed) * rank / blocks) + threadIdx.x;
    const int to = static_cast<int>(static_cast<long long>(routed) * (rank + 1) / blocks);
    auto pairOf = [&](int i) {
        const int group = loadInt(groupOf + i / topK), expert = loadInt(experts + i);
        return group >= 0 && expert >= 0 ? group * expertCount + expert : -1;
    };
    const int firstPair = from < to ? pairOf(from) : -1;
    for (int i = from; i < to; i += PLAN_THREADS) {
        const int pair = i == from ? firstPair : pairOf(i);
        if (pair >= 0) atomicAdd(counts + pair, 1);
    }
    clusterBarrier();

    // Pairs [begin, end) are this thread's. From here to the last barrier no other looks at their counters.
    const int share = (pairs + blocks * PLAN_THREADS - 1) / (blocks * PLAN_THREADS);
    const int begin = min(pairs, (rank * PLAN_THREADS + static_cast<int>(threadIdx.x)) * share);
    const int end = min(pairs, begin + share);
    unsigned long long mine = 0;
    for (int pair = begin; pair < end; pair++) {
        int count = 0;
        for (int b = 0; b < blocks; b++) count += *ofBlock(counts + pair, b);
        mine += packSums(count, shrinkRows, expandRows);
    }
    unsigned long long total;
    unsigned long long before = scanBlock(mine, warpSums, total);
    if (threadIdx.x == 0) blockSum = total;
    clusterBarrier();
    unsigned long long all = 0;
    for (int b = 0; b < blocks; b++) {
        const unsigned long long sum = *ofBlock(&blockSum, b);
        if (b < rank) before += sum;
        all += sum;
    }
    int row = static_cast<int>(before >> 2 * FIELD);
    int shrinkAt = static_cast<int>(before >> FIELD & FIELD_MASK), expandAt = static_cast<int>(before & FIELD_MASK);
    for (int pair = begin; pair < end; pair++) {
        const int firstRow = row;
        for (int b = 0; b < blocks; b++) {
            int* there = ofBlock(counts + pair, b);
            const int count = *there;
            *there = row;
            row += count;
        }
        const int count = row - firstRow;
        if (count == 0) continue;
        const auto* site = reinterpret_cast<const LoraExpert*>(__ldg(sites + pair / expertCount));
        const LoraExpert expert = site ? loadExpert(site + pair % expertCount) : LoraExpert{};
        prefetchTable(expert.a, tableA * static_cast<int>(expert.a >> 48 & 0xFF));
        int size = evenRows(count, shrinkRows);
        for (int r = 0; r < count; r += size, shrinkAt++) {
            shrink[shrinkAt] = int2{firstRow + r, min(size, count - r)};
            shrinkNames[shrinkAt] = expert.a;
        }
#pragma unroll
        for (int t = 0; t < TARGETS; t++)
            if (t < targets) prefetchTable(expert.b[t], tableB);
        size = evenRows(count, expandRows);
        for (int r = 0; r < count; r += size, expandAt++) {
            expand[expandAt] = int2{firstRow + r, min(size, count - r)};
#pragma unroll
            for (int t = 0; t < TARGETS; t++)
                if (t < targets) expandNames[static_cast<long long>(t) * expandTiles + expandAt] = expert.b[t];
        }
    }
    const int thread = rank * PLAN_THREADS + threadIdx.x, threads = blocks * PLAN_THREADS;
    for (int i = static_cast<int>(all >> FIELD & FIELD_MASK) + thread; i < shrinkTiles; i += threads) {
        shrink[i] = int2{};
        shrinkNames[i] = 0;
    }
    for (int i = static_cast<int>(all & FIELD_MASK) + thread; i < expandTiles; i += threads) {
        expand[i] = int2{};
        for (int t = 0; t < targets; t++) expandNames[static_cast<long long>(t) * expandTiles + i] = 0;
    }
    clusterBarrier();

    for (int i = from; i < to; i += PLAN_THREADS) {
        const int pair = i == from ? firstPair : pairOf(i);
        bool hit = false;
        if (pair >= 0) {
            const int at = atomicAdd(counts + pair, 1);
            xRows[at] = xPerChoice ? i : i / topK;
            yRows[at] = i;
            if (weights) factors[at] = loadFactor(weights + i);
            if (hits) {
                const auto* site = reinterpret_cast<const LoraExpert*>(__ldg(sites + pair / expertCount));
                hit = site && loadExpert(site + pair % expertCount).b[0] != 0;
            }
        }
        if (hits) hits[i] = hit;
    }
}

// out[row] += terms[row * topK] + terms[row * topK + 1] + ..., those with a hit, summed in this order and rounded before the sum
// is added. Grid (ceil(columns / 8 / threads), rows); columns a multiple of 8.
extern "C" __global__ void __launch_bounds__(COMBINE_THREADS)
    lora_combine(const __nv_bfloat16* terms, long long termStride, const unsigned char* hits, int topK, int columns,
                 __nv_bfloat16* out, long long stride) {
    awaitPreviousKernel();
    allowNextKernel();
    const int column = (blockIdx.x * COMBINE_THREADS + threadIdx.x) * 8;
    if (column >= columns) return;
    const long long first = static_cast<long long>(blockIdx.y) * topK;
    constexpr int AHEAD = 8;
    float sums[8] = {};
    bool any = false;
    for (int j = 0; j < topK; j += AHEAD) {
        bool hit[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) hit[k] = j + k < topK && hits[first + j + k];
        uint4 values[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++)
            if (hit[k]) values[k] = loadInput(reinterpret_cast<const uint4*>(terms + (first + j + k) * termStride + column));
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (!hit[k]) continue;
            any = true;
            const unsigned words[4] = {values[k].x, values[k].y, values[k].z, values[k].w};
#pragma unroll
            for (int w = 0; w < 4; w++) {
                const float2 pair = unpackBf16(words[w]);
                sums[2 * w] += pair.x, sums[2 * w + 1] += pair.y;
            }
        }
    }
    if (!any) return;
    uint4* target = reinterpret_cast<uint4*>(out + blockIdx.y * stride + column);
    const uint4 old = *target;
    const unsigned olds[4] = {old.x, old.y, old.z, old.w};
    unsigned news[4];
#pragma unroll
    for (int w = 0; w < 4; w++) {
        const float2 base = unpackBf16(olds[w]), sum = unpackBf16(packBf16(sums[2 * w], sums[2 * w + 1]));
        news[w] = packBf16(base.x + sum.x, base.y + sum.y);
    }
    *target = uint4{news[0], news[1], news[2], news[3]};
}
