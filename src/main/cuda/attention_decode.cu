// Causal attention of one row per sequence over paged keys and values: softmax(scale q K^T) V, with grouped heads, windows
// and sinks.
//
// Shapes    q, out [rows, heads * D] bf16 with strides; positions [rows], rowStart [sequences + 1], tables [sequences,
//           tableStride] int32; sinks [heads] float32 or null. Position i attends to i - window + 1 .. i (window 0: all up to i).
//           Sequences with no row (padding) or several (attention_prefill.cu has them) are left alone.
// Layout    cache of one layer as rope.cu says.
// Limits    D <= 256, scale > 0, a layer's cache below 64 GiB; positions, rowStart and tables are written by no kernel of the
//           step, unless none after it may start before it has ended. rope_attention: no row of another sequence is stored in
//           a block that a row reads.
// How       A warp takes up to 16 heads, which share a kv head, and every WARPS-th tile of 16 keys: a ring of its own in
//           shared memory, filled by cp.async, so that no warp waits for another until the end. Up to `splits` blocks share a
//           row's keys, each at least `part` tiles. They merge their results if they are a cluster (of up to 8 blocks along
//           x); else attention_combine does. Softmax is done on the way (Milakov and Gimelshein, arXiv 1805.02867).
// rope_attention_G  does what rope.cu does, too (D a multiple of 16): each block bounds, norms and turns its own queries, and
//           the one with a row's newest position also that position's key and value, which it stores. Keys and values of
//           earlier positions are written by no kernel of the step then, so that they are fetched before the kernel before
//           this one has ended. q, k and v are not changed.
// Bytes     keys and values once, the rest is small.
// Order     keys ascending within a warp, then warps, then splits: none depends on other sequences.

#include "attention.cuh"
#include "rope.cuh"

namespace {

constexpr int ROWS = 16;
constexpr int KEYS = 16;
constexpr int COMBINE_THREADS = 128;
constexpr int MAX_SPLITS = 256;
constexpr int MAX_CLUSTER = 8;

#if __CUDA_ARCH__ >= 900
constexpr int MANY = 8;  // warps of a block, for which other devices lack shared memory
#else
constexpr int MANY = 4;
#endif

template <int GROUPS>
struct Plan {
    static constexpr int WARPS = GROUPS <= 2 ? MANY : 2;
    static constexpr int THREADS = WARPS * WARP;
    static constexpr int STAGES = GROUPS == 1 ? 4 : 3;
    static constexpr int PIECES = Panel<GROUPS>::PIECES;
    static constexpr int HALF = KEYS * PIECES;             // keys, or values, of a tile
    static constexpr int RING = STAGES * 2 * HALF;         // of a warp
    static constexpr int MERGE_STRIDE = 64 * GROUPS + 8;   // + 8: no bank conflicts
    static constexpr int LANES = 4 * GROUPS;               // that share a head where it is turned
};

// The tiles of a row's keys, and how they are cut into splits: both kernels must agree.
struct Tiles {
    int begin, count, splits;

    __device__ __forceinline__ Tiles(int position, int window, int part, int most) {
        begin = window == 0 ? 0 : max(0, position - window + 1) / KEYS;
        count = position / KEYS + 1 - begin;
        splits = min(most, (count + part - 1) / part);
    }

    __device__ __forceinline__ int from(int split) const {
        return begin + static_cast<int>(static_cast<long long>(count) * split / splits);
    }
};

// Reads the same variable of another block of the cluster.
__device__ __forceinline__ float2 loadFromBlock(const float2* shared, int rank) {
#if __CUDA_ARCH__ >= 900
    float2 v;
    asm volatile(
        "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %2, %3; ld.shared::cluster.v2.f32 {%0, %1}, [remote]; }"
        : "=f"(v.x), "=f"(v.y)
        : "r"(sharedAddress(shared)), "r"(rank)
        : "memory");
    return v;
#else
    return *shared;
#endif
}

__device__ __forceinline__ float4 loadFromBlock(const float4* shared, int rank) {
#if __CUDA_ARCH__ >= 900
    float4 v;
    asm volatile(
        "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %4, %5; ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, "
        "[remote]; }"
        : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
        : "r"(sharedAddress(shared)), "r"(rank)
        : "memory");
    return v;
#else
    return *shared;
#endif
}

// Up to four results; whole: all there and aligned.
__device__ __forceinline__ void store(__nv_bfloat16* target, int count, const float4& v, float factor, bool whole) {
    if (count <= 0) return;
    if (whole) {
        *reinterpret_cast<uint2*>(target) = uint2{packBf16(v.x * factor, v.y * factor), packBf16(v.z * factor, v.w * factor)};
        return;
    }
    const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (i < count) target[i] = __float2bfloat16_rn(values[i] * factor);
}

// What rope_attention_G has besides.
struct Newest {
    const __nv_bfloat16 *k, *v;
    long long kStride, vStride;
    const double* turns;
    float magnitude, bound, eps;
    const float *qNorm, *kNorm;
};

// A block's queries, and the newest key and value, made ready for attention.
template <int GROUPS>
struct Preparation {
    using P = Plan<GROUPS>;
    static constexpr int SLOTS = P::THREADS / P::LANES;  // heads at a time

    const Newest& newest;
    int D, count, tasks;  // heads of queries; and with those of the newest key and value
    Norm norm;
    Angles angles;

    __device__ __forceinline__ int element() const { return threadIdx.x % P::LANES * 8; }

    __device__ __forceinline__ const float* weights(int head) const {
        return head < count ? newest.qNorm : head == count ? newest.kNorm : nullptr;
    }

    // Before the wait: what no kernel of the step writes.
    __device__ __forceinline__ void begin(int position, uint4* queries) {
        const bool active = element() < D / 2;
        angles.load(newest.turns, position, element(), active, newest.magnitude);
        if (active && threadIdx.x / P::LANES < tasks) norm.load(weights(threadIdx.x / P::LANES), element(), D / 2);
        for (int i = threadIdx.x; i < ROWS * P::PIECES; i += P::THREADS)
            if (i / P::PIECES >= count || 8 * (i % P::PIECES) >= D)
                *Panel<GROUPS>::at(queries, i / P::PIECES, i % P::PIECES) = uint4{};
    }

    // q, k, v: of the first head, and of the kv head. rows: room for the newest key and value; stored, storedValue: their
    // places in the cache, or null.
    __device__ __forceinline__ void run(const __nv_bfloat16* q, const __nv_bfloat16* k, const __nv_bfloat16* v,
                                        uint4* queries, uint4* rows, __nv_bfloat16* stored, __nv_bfloat16* storedValue) {
        const int half = D / 2, e = element(), piece = e / 8;
        const bool normed = newest.qNorm != nullptr || newest.kNorm != nullptr;
        for (int base = 0; base < tasks; base += SLOTS) {
            const int head = base + threadIdx.x / P::LANES;
            const bool present = e < half && head < tasks;
            uint4 first{}, second{};
            if (present) {
                const __nv_bfloat16* source = (head < count ? q + head * D : head == count ? k : v) + e;
                first = loadPieces(source), second = loadPieces(source + half);
                norm.load(weights(head), e, half);
            }
            prepareHead<P::LANES>(first, second, newest.bound, normed, norm, newest.eps, D, head <= count, angles);
            if (!present) continue;
            if (head < count) {
                *Panel<GROUPS>::at(queries, head, piece) = first;
                *Panel<GROUPS>::at(queries, head, piece + half / 8) = second;
                continue;
            }
            uint4* const row = rows + (head - count) * P::PIECES + piece;
            row[0] = first, row[half / 8] = second;
            __nv_bfloat16* const target = head == count ? stored : storedValue;
            if (target == nullptr) continue;
            *reinterpret_cast<uint4*>(target + e) = first, *reinterpret_cast<uint4*>(target + half + e) = second;
        }
    }
};

// newest: of rope_attention_G, else null.
template <int GROUPS, bool PREPARES>
__device__ __forceinline__ void decode(ATTENTION_PARAMETERS, const int* rowStart, int part, float* partials,
                                       float2* partialSums, const Newest& newest) {
    using Rows = Panel<GROUPS>;
    using P = Plan<GROUPS>;
    constexpr int PIECES = P::PIECES, HALF = P::HALF, STAGES = P::STAGES, WARPS = P::WARPS;
    extern __shared__ __align__(128) uint4 memory[];
    __shared__ float mosts[WARPS][ROWS], sums[WARPS][ROWS], factors[ROWS];
    __shared__ uint4 newestRows[PREPARES ? 2 * PIECES : 1];
    __shared__ float2 stats[ROWS];  // maxima and sums of this block's keys, for the cluster
    if constexpr (!PREPARES) allowNextKernel();
    const int share = heads / kvHeads, headTiles = (share + ROWS - 1) / ROWS;
    const int split = blockIdx.x, kvHead = blockIdx.y / headTiles, sequence = blockIdx.z;
    const int firstHead = kvHead * share + blockIdx.y % headTiles * ROWS;
    const int count = min(ROWS, (kvHead + 1) * share - firstHead);
    const int row = rowStart[sequence], position = rowStart[sequence + 1] - row == 1 ? positions[row] : -1;
    const int padded = (D + 7) / 8 * 8;
    const Tiles tiles(max(position, 0), window, part, gridDim.x);
    if (position < 0 || split >= tiles.splits) {
        awaitPreviousKernel();
        return;
    }
    const bool together = tiles.splits > 1 && clusterSize() > 1;  // combined by the cluster
    const int headPieces = blockSize * (padded / 8), blockPieces = 2 * kvHeads * headPieces;
    const uint4* keys = reinterpret_cast<const uint4*>(cache) + kvHead * headPieces;
    const uint4* values = keys + kvHeads * headPieces;
    const int* table = tables + static_cast<long long>(sequence) * tableStride;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    const int first = tiles.from(split) + warp, end = tiles.from(split + 1);
    const int own = max(0, (end - first + WARPS - 1) / WARPS);  // tiles of this warp
    const int known = PREPARES ? position : position + 1;  // positions whose keys are in the cache
    uint4* ring = memory + warp * P::RING;

    // Where the key of this lane (of lanes 0 .. 15) lies in the warp's i-th tile, in units of 16 bytes.
    auto place = [&](int i) {
        const int key = (first + i * WARPS) * KEYS + lane % KEYS;
        if (i >= own || key > position) return 0u;
        const int block = blockSize == 16 ? key >> 4 : key / blockSize;
        return static_cast<unsigned>(table[block]) * blockPieces + (key - block * blockSize) * (padded / 8);
    };
    auto fetch = [&](int i, unsigned at, uint4* stage) {
        if (i < own) {
            const int key0 = (first + i * WARPS) * KEYS;
#pragma unroll
            for (int j = 0; j < HALF / WARP; j++) {
                const int key = (lane + j * WARP) / PIECES, piece = lane % PIECES;
                const long long source = __shfl_sync(~0u, at, key) + static_cast<long long>(piece);
                const bool present = key0 + key < known && 8 * piece < padded;
                copyAsync(Rows::at(stage, key, piece), keys + (present ? source : 0), present);
                copyAsync(Rows::at(stage + HALF, key, piece), values + (present ? source : 0), present);
            }
        }
        commitCopies();
    };

    unsigned next = place(0);
    auto fetchFirst = [&] {
#pragma unroll
        for (int i = 0; i < STAGES - 1; i++) {
            const unsigned at = next;
            next = place(i + 1);
            fetch(i, at, ring + i * 2 * HALF);
        }
    };
    uint4* const queries = memory + (STAGES - 1) * 2 * HALF;  // in the stage that is filled last
    // Whether this block, and this warp with its last tile, has the newest position.
    const bool ends = PREPARES && split == tiles.splits - 1;
    const bool endsHere = ends && own > 0 && first + (own - 1) * WARPS == end - 1;
    if constexpr (PREPARES) {
        fetchFirst();
        Preparation<GROUPS> preparation{newest, D, count, ends ? count + 2 : count};
        preparation.begin(position, queries);
        __nv_bfloat16* stored = nullptr;
        if (ends && blockIdx.y % headTiles == 0)
            stored = const_cast<__nv_bfloat16*>(cache) + (static_cast<long long>(table[position / blockSize]) * blockPieces
                + kvHead * headPieces + position % blockSize * (padded / 8)) * 8;
        awaitPreviousKernel();
        // Not before: what the next kernel fetches ahead is to come while this one's chain of waits leaves the memory idle.
        allowNextKernel();
        preparation.run(q + row * qStride + firstHead * D, newest.k + row * newest.kStride + kvHead * D,
                        newest.v + row * newest.vStride + kvHead * D, queries, newestRows, stored,
                        stored == nullptr ? nullptr : stored + static_cast<long long>(kvHeads) * headPieces * 8);
    } else {
        // The tiles that are read first come to the L2 while the kernel before this one still runs.
        const uint4* source = (lane < KEYS ? keys : values) + next;
#pragma unroll
        for (int i = 0; i < GROUPS; i++)
            if (own > 0 && 64 * i < padded) prefetchL2(source + 8 * i);
        const unsigned second = place(1);
        source = (lane < KEYS ? keys : values) + second;
#pragma unroll
        for (int i = 0; i < GROUPS; i++)
            if (own > 1 && 64 * i < padded) prefetchL2(source + 8 * i);
        awaitPreviousKernel();
        for (int i = threadIdx.x; i < ROWS * PIECES; i += P::THREADS) {
            const int r = i / PIECES, piece = i % PIECES;
            const bool present = r < count && 8 * piece < D;
            const __nv_bfloat16* from = present ? q + row * qStride + (firstHead + r) * D + 8 * piece : q;
            if (D % 8 == 0) {
                copyAsync(Rows::at(queries, r, piece), from, present);
            } else {
                __nv_bfloat16* target = reinterpret_cast<__nv_bfloat16*>(Rows::at(queries, r, piece));
                for (int e = 0; e < 8; e++) target[e] = present && 8 * piece + e < D ? from[e] : __float2bfloat16_rn(0);
            }
        }
        commitCopies();
        fetchFirst();
        awaitCopies<STAGES - 1>();
    }
    __syncthreads();
    WarpAttention<GROUPS, KEYS, true> work;
    work.keep(queries);
    work.position[0] = g < count ? position : -1;
    work.position[1] = g + 8 < count ? position : -1;
    __syncthreads();
    const float scale2 = scale * LOG2E;
    for (int i = 0, now = 0; i < own; i++, now = now + 1 == STAGES ? 0 : now + 1) {
        awaitCopies<STAGES - 2>();
        __syncwarp();
        const unsigned at = next;
        next = place(i + STAGES);
        fetch(i + STAGES - 1, at, ring + (now == 0 ? STAGES - 1 : now - 1) * 2 * HALF);
        uint4* const stage = ring + now * 2 * HALF;
        if (endsHere && i == own - 1) {
            for (int n = lane; n < 2 * PIECES; n += WARP)
                if (8 * (n % PIECES) < D)
                    *Rows::at(stage + n / PIECES * HALF, position % KEYS, n % PIECES) = newestRows[PREPARES ? n : 0];
            __syncwarp();
        }
        const int key0 = (first + i * WARPS) * KEYS;
        float s[KEYS / 8][4] = {};
        work.score(stage, nullptr, s);
        // Rows without a head have scores of zero: none is looked at.
        if (key0 + KEYS - 1 > position || (window != 0 && key0 <= position - window)) work.mask(s, key0, window);
        work.softmax(s, scale2);
        work.addValues(stage + HALF, s);
    }

    // The warps' results become relative to the rows' common maxima, and are summed.
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = work.sum[h];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if (c == 0) mosts[warp][g + 8 * h] = work.most[h] * scale2, sums[warp][g + 8 * h] = sum;
    }
    __syncthreads();
    float* const results = reinterpret_cast<float*>(ring);
    // What the block's warps add up to, for the cluster: in the first ring, behind that warp's results.
    float4* const merged = reinterpret_cast<float4*>(memory) + ROWS * P::MERGE_STRIDE / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int r = g + 8 * h;
        if (r >= count) continue;
        float most = -INFINITY, sum = 0;
        for (int w = 0; w < WARPS; w++) most = fmaxf(most, mosts[w][r]);
        const float shift = most == -INFINITY ? 0 : most;
        for (int w = 0; w < WARPS; w++) sum += sums[w][r] * power2(mosts[w][r] - shift);
        const float factor = power2(mosts[warp][r] - shift);
#pragma unroll
        for (int i = 0; i < 8 * GROUPS; i++)
            *reinterpret_cast<float2*>(results + r * P::MERGE_STRIDE + 8 * i + 2 * c) =
                float2{work.o[i][2 * h] * factor, work.o[i][2 * h + 1] * factor};
        if (warp == 0 && c == 0) {
            if (together) {
                stats[r] = float2{most, sum};
            } else if (tiles.splits > 1) {
                partialSums[(static_cast<long long>(sequence) * heads + firstHead + r) * gridDim.x + split] =
                    float2{most, sum};
            } else {
                factors[r] = normaliser(most, sum, sinks, firstHead + r);
            }
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count * PIECES; i += P::THREADS) {
        const int r = i / PIECES, piece = i % PIECES;
        if (8 * piece >= padded) continue;
        float4 total[2] = {};
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const float4* source =
                reinterpret_cast<const float4*>(memory + w * P::RING) + (r * P::MERGE_STRIDE + 8 * piece) / 4;
            addTo(total[0], source[0]);
            addTo(total[1], source[1]);
        }
        if (together) {
            merged[2 * i] = total[0], merged[2 * i + 1] = total[1];
            continue;
        }
        if (tiles.splits > 1) {
            float4* target = reinterpret_cast<float4*>(
                partials + ((static_cast<long long>(sequence) * heads + firstHead + r) * gridDim.x + split) * padded + 8 * piece);
            target[0] = total[0], target[1] = total[1];
            continue;
        }
        const float factor = factors[r];
        store(out + row * outStride + (firstHead + r) * D + 8 * piece, D - 8 * piece, total[0], factor, D % 4 == 0);
        store(out + row * outStride + (firstHead + r) * D + 8 * piece + 4, D - 8 * piece - 4, total[1], factor, D % 4 == 0);
    }
    if (!together) return;
    __syncwarp();
    clusterBarrier();
    // Each block finishes some of the row's elements.
    for (int i = threadIdx.x * tiles.splits + split; i < count * 2 * PIECES; i += P::THREADS * tiles.splits) {
        const int r = i / (2 * PIECES), e = i % (2 * PIECES) * 4;
        if (e >= D) continue;
        float most = -INFINITY, sum = 0;
        float2 stat[MAX_CLUSTER];
        float4 part[MAX_CLUSTER], total{};
#pragma unroll
        for (int s = 0; s < MAX_CLUSTER; s++) {
            if (s >= tiles.splits) break;
            stat[s] = loadFromBlock(stats + r, s), part[s] = loadFromBlock(merged + i, s);
        }
#pragma unroll
        for (int s = 0; s < MAX_CLUSTER; s++)
            if (s < tiles.splits) most = fmaxf(most, stat[s].x);
        const float shift = most == -INFINITY ? 0 : most;
#pragma unroll
        for (int s = 0; s < MAX_CLUSTER; s++) {
            if (s >= tiles.splits) break;
            const float factor = power2(stat[s].x - shift);
            sum += stat[s].y * factor;
            total.x += part[s].x * factor, total.y += part[s].y * factor;
            total.z += part[s].z * factor, total.w += part[s].w * factor;
        }
        store(out + row * outStride + (firstHead + r) * D + e, D - e, total, normaliser(most, sum, sinks, firstHead + r),
              D % 4 == 0);
    }
    __syncwarp();
    clusterBarrier();  // Others have read this block's memory.
}

}  // namespace

// Grid (splits, kvHeads * ceil(heads / kvHeads / 16), sequences), G groups of 64 elements of a head; threads 256, 256, 64 and
// dynamic shared memory 128, 192, 96 KiB for G = 1, 2, 4 (before sm_90: 128, 128, 64 and 64, 96, 96). Several splits are a cluster of so many, at most 8, or have partials
// [sequences][heads][splits][D rounded up to 8] and partialSums [sequences][heads][splits] of workspace.
#define KERNELS(GROUPS, BLOCKS)                                                                                       \
    extern "C" __global__ void __launch_bounds__(Plan<GROUPS>::THREADS, BLOCKS) attention_decode_##GROUPS(            \
        ATTENTION_PARAMETERS, const int* rowStart, int part, float* partials, float2* partialSums) {                  \
        decode<GROUPS, false>(q, qStride, positions, tables, tableStride, heads, kvHeads, D, cache, blockSize,        \
                              window, scale, sinks, out, outStride, rowStart, part, partials, partialSums, Newest{}); \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(Plan<GROUPS>::THREADS, BLOCKS) rope_attention_##GROUPS(              \
        ATTENTION_PARAMETERS, const int* rowStart, int part, float* partials, float2* partialSums,                    \
        const __nv_bfloat16* k, long long kStride, const __nv_bfloat16* v, long long vStride, const double* turns,    \
        float magnitude, float bound, const float* qNorm, const float* kNorm, float eps) {                            \
        decode<GROUPS, true>(q, qStride, positions, tables, tableStride, heads, kvHeads, D, cache, blockSize,         \
                             window, scale, sinks, out, outStride, rowStart, part, partials, partialSums,             \
                             Newest{k, v, kStride, vStride, turns, magnitude, bound, eps, qNorm, kNorm});             \
    }

KERNELS(1, MANY == 8 ? 1 : 3)
KERNELS(2, MANY == 8 ? 1 : 2)
KERNELS(4, 2)

// Grid (heads, sequences), 128 threads; at most 256 splits.
extern "C" __global__ void __launch_bounds__(COMBINE_THREADS)
    attention_combine(const float* partials, const float2* partialSums, int mostSplits, int D, int part, int window,
                      const int* positions, const int* rowStart, const float* sinks, __nv_bfloat16* out,
                      long long outStride) {
    __shared__ float factors[MAX_SPLITS];
    __shared__ float4 sums[COMBINE_THREADS];
    allowNextKernel();
    const int head = blockIdx.x, sequence = blockIdx.y, row = rowStart[sequence];
    const int position = rowStart[sequence + 1] - row == 1 ? positions[row] : -1;
    const int splits = position < 0 ? 0 : Tiles(position, window, part, mostSplits).splits;
    awaitPreviousKernel();
    if (splits < 2) return;
    const long long first = (static_cast<long long>(sequence) * gridDim.x + head) * mostSplits;
    const int lane = threadIdx.x % WARP;
    float most = -INFINITY, sum = 0;
    for (int s = lane; s < splits; s += WARP) most = fmaxf(most, partialSums[first + s].x);
#pragma unroll
    for (int i = WARP / 2; i > 0; i /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, i));
    const float shift = most == -INFINITY ? 0 : most;
    for (int s = lane; s < splits; s += WARP) {
        const float2 mine = partialSums[first + s];
        const float factor = power2(mine.x - shift);
        sum += mine.y * factor;
        if (threadIdx.x < WARP) factors[s] = factor;
    }
#pragma unroll
    for (int i = WARP / 2; i > 0; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
    __syncthreads();
    const int padded = (D + 7) / 8 * 8, width = D <= 64 ? 16 : D <= 128 ? 32 : 64;  // float4 of a split
    const int groups = COMBINE_THREADS / width, group = threadIdx.x / width, e = threadIdx.x % width * 4;
    const float* source = partials + first * padded + e;
    float4 total{};
    if (e < padded) {
#pragma unroll 4
        for (int s = group; s < splits; s += groups) {
            const float4 more = *reinterpret_cast<const float4*>(source + static_cast<long long>(s) * padded);
            const float factor = factors[s];
            total.x += more.x * factor, total.y += more.y * factor, total.z += more.z * factor, total.w += more.w * factor;
        }
    }
    sums[threadIdx.x] = total;
    __syncthreads();
    if (group > 0 || e >= D) return;
    for (int i = 1; i < groups; i++) addTo(total, sums[threadIdx.x + i * width]);
    store(out + row * outStride + head * D + e, D - e, total, normaliser(most, sum, sinks, head), D % 4 == 0);
}
