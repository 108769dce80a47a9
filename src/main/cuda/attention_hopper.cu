// Causal attention of many rows of a sequence on Hopper: what attention_prefill.cu computes, for heads of up to 128
// elements, a multiple of 8.
//
// Shapes    as attention_prefill.cu says; tiles of 128 flat rows.
// Limits    D <= 128, a multiple of 8; scale > 0.
// How       One block per multiprocessor goes through tiles. A warp group brings queries, and keys and values in tiles of
//           KEYS to a ring of STAGES in shared memory, with 16-byte copies, since a tile spans blocks of the cache; rows of
//           64 elements are permuted as a swizzle of 128 bytes does. Two more warp groups have 64 rows each: scores of the
//           next keys are multiplied beside the values of the last, and softmax follows while the latter still are
//           (Shah et al., arXiv 2407.08608). Weights stay in registers.
// Bytes     keys and values once per tile from the L2: arithmetic is the limit, 4 D per query and key.
// Order     keys ascending in tiles that begin at multiples of their size: a row's result depends on no other row.
//
// Launch: up to as many blocks as multiprocessors, 384 threads, Plan::SHARED bytes of shared memory.

#include "attention.cuh"
#include "hopper.cuh"

namespace {

constexpr int CONSUMERS = 2;  // warp groups
constexpr int THREADS = (CONSUMERS + 1) * WARP_GROUP;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int GROUP_ROWS = 64;
constexpr int ROW_BYTES = 128;  // of 64 elements
constexpr int WARPS = WARP_GROUP / WARP;

#define SUMS_4(i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4((i) + 4), SUMS_4((i) + 8), SUMS_4((i) + 12)
#define NAMES_32                                                                            \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
    "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                                                       \
    NAMES_32                                                                                                           \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, " \
    "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// d (64 x 64) = q (64 x 16) * keys (64 x 16)^T, plus d if `accumulate`.
__device__ __forceinline__ void multiplyKeys(float (&d)[32], uint64_t q, uint64_t keys, int accumulate) {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" NAMES_32 "}, %32, %33, p, 1, 1, 0, 0; }"
        : SUMS_16(0), SUMS_16(16)
        : "l"(q), "l"(keys), "r"(accumulate));
}

__device__ __forceinline__ void multiplyKeys(float (&d)[64], uint64_t q, uint64_t keys, int accumulate) {
    multiply(d, q, keys, accumulate);
}

// d (64 x 64) += weights (64 x 16, as mma has them) * values (16 x 64), which lie in rows of keys.
__device__ __forceinline__ void multiplyValues(float (&d)[32], const unsigned* weights, uint64_t values) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" NAMES_32 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
        : SUMS_16(0), SUMS_16(16)
        : "r"(weights[0]), "r"(weights[1]), "r"(weights[2]), "r"(weights[3]), "l"(values));
}

// d (64 x 128) += weights (64 x 16) * values (16 x 128).
__device__ __forceinline__ void multiplyValues(float (&d)[64], const unsigned* weights, uint64_t values) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" NAMES_64 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
        : SUMS_16(0), SUMS_16(16), SUMS_16(32), SUMS_16(48)
        : "r"(weights[0]), "r"(weights[1]), "r"(weights[2]), "r"(weights[3]), "l"(values));
}

#undef SUMS_16
#undef SUMS_4
#undef NAMES_32
#undef NAMES_64

// What products under way have written is read only below this.
template <int N>
__device__ __forceinline__ void pin(float (&d)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

#endif

template <int GROUPS, int KEYS>
struct Plan {
    static constexpr int PANEL = KEYS * 128;            // bytes of 64 elements of a tile's keys
    static constexpr int OPERAND = GROUPS * PANEL;      // keys, or values
    static constexpr int STAGE = 2 * OPERAND;
    static constexpr int STAGES = GROUPS == 1 ? (KEYS == 64 ? 6 : 4) : (KEYS == 64 ? 5 : 3);
    static constexpr int Q_PANEL = 128 * 128;
    static constexpr int Q_BUFFER = GROUPS * Q_PANEL;
    static constexpr int Q_BUFFERS = GROUPS == 2 && KEYS == 128 ? 1 : 2;  // one where there is no room for two
    static constexpr int Q_BYTES = Q_BUFFERS * Q_BUFFER;
    static constexpr int SHARED = 1024 + Q_BYTES + STAGES * STAGE;
    static_assert(SHARED <= 231000, "a multiprocessor has 227 KiB for a block");
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// All that blocks know of the step.
struct Step {
    const __nv_bfloat16* q;
    long long qStride;
    const int *positions, *tables;
    int tableStride, heads, kvHeads, D;
    const __nv_bfloat16* cache;
    int blockSize, window;
    float scale;
    const float* sinks;
    __nv_bfloat16* out;
    long long outStride;
    const int4* tileList;
    int tiles;
};

// A tile of rows and a kv head.
template <int KEYS>
struct Item {
    int4 tile;
    int kvHead;

    __device__ __forceinline__ Item(const Step& step, int i)
        : tile(step.tileList[i / step.kvHeads]), kvHead(i % step.kvHeads) {}

    __device__ __forceinline__ int flats() const { return tile.w & 0xff; }
    __device__ __forceinline__ int row(int i, int share) const { return tile.y + (skipped() + i) / share; }
    __device__ __forceinline__ int position(int i, int share) const { return tile.z + (skipped() + i) / share; }
    __device__ __forceinline__ int head(int i, int share) const { return kvHead * share + (skipped() + i) % share; }

    __device__ __forceinline__ static int firstTile(int position, int window) {
        return window == 0 ? 0 : max(0, position - window + 1) / KEYS;
    }

  private:
    __device__ __forceinline__ int skipped() const { return tile.w >> 8; }
};

template <int STAGES>
struct Ring {
    int stage = 0;
    unsigned parity = 0;

    __device__ __forceinline__ void advance() {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
};

template <int STAGES, int BUFFERS>
struct Barriers {
    uint64_t full[STAGES], empty[STAGES], queriesFull[BUFFERS], queriesEmpty[BUFFERS];
};

template <int GROUPS, int KEYS>
class Block {
    using P = Plan<GROUPS, KEYS>;
    static constexpr int STAGES = P::STAGES, PIECES = 8 * GROUPS;  // of 8 elements
    static constexpr unsigned NONE = ~0u;  // no such row
    using Signals = Barriers<STAGES, P::Q_BUFFERS>;

  public:
    static __device__ __forceinline__ void run(const Step& step) {
        extern __shared__ unsigned char memory[];
        __shared__ Signals signals;
        unsigned char* queries = memory + (1024 - (sharedAddress(memory) & 1023) & 1023);
        if (threadIdx.x == 0) {
            for (int s = 0; s < STAGES; s++) {
                initialiseBarrier(signals.full + s, WARP_GROUP);
                initialiseBarrier(signals.empty + s, CONSUMERS * WARPS);
            }
            for (int b = 0; b < P::Q_BUFFERS; b++) {
                initialiseBarrier(signals.queriesFull + b, WARP_GROUP);
                initialiseBarrier(signals.queriesEmpty + b, CONSUMERS * WARPS);
            }
            publishBarriers();
        }
        awaitPreviousKernel();
        allowNextKernel();
        __syncthreads();
        if (threadIdx.x < WARP_GROUP) {
            giveUpRegisters<40>();
            fetch(step, queries, signals);
        } else {
            takeRegisters<232>();
            attend(step, queries, signals);
        }
    }

  private:
    // Copies COUNT rows of 64 * GROUPS elements per warp: lane i knows where row i begins, in units of 16 bytes.
    template <int COUNT>
    static __device__ __forceinline__ void copyRows(unsigned char* target, int panel, const uint4* source, unsigned at,
                                                    int pieces) {
        const int lane = threadIdx.x % WARP, first = threadIdx.x / WARP * COUNT, piece = lane % PIECES;
#pragma unroll 4
        for (int j = 0; j < COUNT * PIECES / WARP; j++) {
            const int i = (lane + j * WARP) / PIECES, row = first + i;
            const unsigned place = __shfl_sync(~0u, at, i);
            const bool present = place != NONE && piece < pieces;
            copyAsync(target + piece / 8 * panel + row * ROW_BYTES + (piece % 8 ^ (row & 7)) * 16,
                      source + (present ? static_cast<long long>(place) + piece : 0), present);
        }
    }

    static __device__ __forceinline__ void fetch(const Step& step, unsigned char* queries, Signals& signals) {
        constexpr int COUNT = KEYS / WARPS;
        const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
        const int pieces = step.D / 8, share = step.heads / step.kvHeads;
        const int headPieces = step.blockSize * pieces, blockPieces = 2 * step.kvHeads * headPieces;
        const int total = step.tiles * step.kvHeads;
        Ring<STAGES> ring;
        Ring<P::Q_BUFFERS> buffers;
        if (blockIdx.x >= total) return;
        Item<KEYS> following(step, blockIdx.x);
        for (int i = blockIdx.x; i < total; i += gridDim.x, buffers.advance()) {
            const Item<KEYS> item = following;
            if (i + gridDim.x < total) following = Item<KEYS>(step, i + gridDim.x);
            const int last = item.position(item.flats() - 1, share);
            const int begin = Item<KEYS>::firstTile(item.position(0, share), step.window);
            const int* table = step.tables + static_cast<long long>(item.tile.x) * step.tableStride;
            const uint4* keys = reinterpret_cast<const uint4*>(step.cache) + item.kvHead * headPieces;
            const uint4* values = keys + step.kvHeads * headPieces;
            auto place = [&](int t) {
                const int key = t * KEYS + warp * COUNT + lane % COUNT;
                if (key > last) return NONE;
                const int block = step.blockSize == 16 ? key >> 4 : key / step.blockSize;
                return static_cast<unsigned>(table[block]) * blockPieces + (key - block * step.blockSize) * pieces;
            };
            unsigned next = place(begin);
            for (int t = begin; t <= last / KEYS; t++, ring.advance()) {
                const unsigned at = next;
                next = place(t + 1);
                awaitBarrier(signals.empty + ring.stage, ring.parity ^ 1);
                unsigned char* stage = queries + P::Q_BYTES + ring.stage * P::STAGE;
                copyRows<COUNT>(stage, P::PANEL, keys, at, pieces);
                copyRows<COUNT>(stage + P::OPERAND, P::PANEL, values, at, pieces);
                arriveAfterCopies(signals.full + ring.stage);
                if (t > begin) continue;
                // Rows of an earlier item may still look at their last keys: only now their queries must make room.
                const int r = warp * WARP + lane;
                const unsigned from = r < item.flats()
                    ? (item.row(r, share) * step.qStride + item.head(r, share) * step.D) / 8 : NONE;
                awaitBarrier(signals.queriesEmpty + buffers.stage, buffers.parity ^ 1);
                copyRows<WARP>(queries + buffers.stage * P::Q_BUFFER, P::Q_PANEL,
                               reinterpret_cast<const uint4*>(step.q), from, pieces);
                arriveAfterCopies(signals.queriesFull + buffers.stage);
            }
        }
        commitCopies();
        awaitCopies<0>();
    }

    static __device__ __forceinline__ void attend(const Step& step, const unsigned char* queries, Signals& signals) {
        const int group = threadIdx.x / WARP_GROUP - 1, lane = threadIdx.x % WARP, share = step.heads / step.kvHeads;
        const int groupRow = group * GROUP_ROWS, warpRow = groupRow + threadIdx.x % WARP_GROUP / WARP * 16;
        const unsigned char* stages = queries + P::Q_BYTES;
        const int total = step.tiles * step.kvHeads;
        Ring<STAGES> ring;
        Ring<P::Q_BUFFERS> buffers;
        if (blockIdx.x >= total) return;
        Item<KEYS> following(step, blockIdx.x);
        for (int i = blockIdx.x; i < total; i += gridDim.x, buffers.advance()) {
            const Item<KEYS> item = following;
            if (i + gridDim.x < total) following = Item<KEYS>(step, i + gridDim.x);
            const int begin = Item<KEYS>::firstTile(item.position(0, share), step.window);
            const int end = item.position(item.flats() - 1, share) / KEYS + 1;
            int from = end, to = end;  // tiles of keys that this warp group looks at
            if (groupRow < item.flats()) {
                from = Item<KEYS>::firstTile(item.position(groupRow, share), step.window);
                to = item.position(min(groupRow + GROUP_ROWS, item.flats()) - 1, share) / KEYS + 1;
            }
            auto pass = [&](int tiles) {
                for (; tiles > 0; tiles--, ring.advance()) {
                    awaitBarrier(signals.full + ring.stage, ring.parity);
                    if (lane == 0) arrive(signals.empty + ring.stage);
                }
            };
            pass(from - begin);
            awaitBarrier(signals.queriesFull + buffers.stage, buffers.parity);
            uint64_t* looked = signals.queriesEmpty + buffers.stage;
            if (from == to) {
                if (lane == 0) arrive(looked);
                continue;
            }
            const uint64_t q = describeRows(queries + buffers.stage * P::Q_BUFFER + groupRow * ROW_BYTES);
            attend(step, item, warpRow, from, to, q, looked, stages, ring, signals);
            pass(end - to);
        }
    }

    static __device__ __forceinline__ void score(float (&s)[KEYS / 2], uint64_t q, uint64_t keys) {
#pragma unroll
        for (int k = 0; k < 4 * GROUPS; k++)
            multiplyKeys(s, q + (k / 4 * P::Q_PANEL + k % 4 * 32) / 16, keys + (k / 4 * P::PANEL + k % 4 * 32) / 16, k);
        commitProducts();
    }

    static __device__ __forceinline__ void addValues(float (&o)[32 * GROUPS], const unsigned (&weights)[KEYS / 4],
                                                     uint64_t values) {
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) multiplyValues(o, weights + 4 * k, values + k * 16 * ROW_BYTES / 16);
        commitProducts();
    }

    // Values lie in rows of keys: PANEL bytes from 64 of their elements to the next.
    static __device__ __forceinline__ uint64_t describeValues(const void* values) {
        constexpr uint64_t NEXT_PANEL = P::PANEL >> 4;
        return (describeRows(values) & ~(0x3fffull << 16)) | NEXT_PANEL << 16;
    }

    // Drops keys that rows do not see.
    static __device__ __forceinline__ void mask(float (&s)[KEYS / 2], int key0, const int (&position)[2], int window) {
        const int c = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            const int key = key0 + i / 4 * 8 + 2 * c + i % 2, p = position[i / 2 % 2];
            if (key > p || (window != 0 && key <= p - window)) s[i] = -INFINITY;
        }
    }

    // Scores become weights relative to the rows' maxima so far, which may rise; what sums so far are to be multiplied with.
    static __device__ __forceinline__ bool weigh(float (&s)[KEYS / 2], float (&most)[2], float (&sum)[2], float scale,
                                                 float (&factor)[2]) {
        float best[2] = {most[0], most[1]};
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) best[i / 2 % 2] = fmaxf(best[i / 2 % 2], s[i]);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            best[h] = fmaxf(best[h], __shfl_xor_sync(~0u, best[h], 1));
            best[h] = fmaxf(best[h], __shfl_xor_sync(~0u, best[h], 2));
        }
        const float shift[2] = {best[0] == -INFINITY ? 0 : best[0] * scale, best[1] == -INFINITY ? 0 : best[1] * scale};
        const bool risen = __any_sync(~0u, best[0] != most[0] || best[1] != most[1]);
        if (risen) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                factor[h] = power2(most[h] * scale - shift[h]);
                sum[h] *= factor[h];
                most[h] = best[h];
            }
        }
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            s[i] = power2(fmaf(s[i], scale, -shift[i / 2 % 2]));
            sum[i / 2 % 2] += s[i];
        }
        return risen;
    }

    static __device__ __forceinline__ void attend(const Step& step, const Item<KEYS>& item, int warpRow, int from, int to,
                                                  uint64_t q, uint64_t* looked, const unsigned char* stages,
                                                  Ring<STAGES>& ring, Signals& signals) {
        const int lane = threadIdx.x % WARP, g = lane / 4, share = step.heads / step.kvHeads, window = step.window;
        const float scale = step.scale * LOG2E;
        int position[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int r = warpRow + g + 8 * h;
            position[h] = r < item.flats() ? item.position(r, share) : -1;
        }
        // Of the warp's rows; no tile is seen by all of them if some do not exist.
        const int first = warpRow + 16 <= item.flats() ? item.position(warpRow, share) : -1;
        const int last = item.position(warpRow + 15, share);
        float s[KEYS / 2], o[32 * GROUPS] = {};
        float most[2] = {-INFINITY, -INFINITY}, sum[2] = {}, factor[2] = {};
        unsigned weights[KEYS / 4];
        auto weighTile = [&](int t) {
            const int key0 = t * KEYS;
            if (key0 + KEYS - 1 > first || (window != 0 && key0 <= last - window)) mask(s, key0, position, window);
            return weigh(s, most, sum, scale, factor);
        };
        auto round = [&] {
#pragma unroll
            for (int i = 0; i < KEYS / 4; i++) weights[i] = packBf16(s[2 * i], s[2 * i + 1]);
        };

        int previous = ring.stage;
        awaitBarrier(signals.full + previous, ring.parity);
        publishToAsyncProxy();
        beginProducts();
        score(s, q, describeRows(stages + previous * P::STAGE));
        awaitProducts<0>();
        pin(s);
        if (to == from + 1 && lane == 0) arrive(looked);
        weighTile(from);
        round();
        ring.advance();
        for (int t = from + 1; t < to; t++) {
            awaitBarrier(signals.full + ring.stage, ring.parity);
            publishToAsyncProxy();
            beginProducts();
            score(s, q, describeRows(stages + ring.stage * P::STAGE));
            addValues(o, weights, describeValues(stages + previous * P::STAGE + P::OPERAND));
            awaitProducts<1>();
            pin(s);
            if (t + 1 == to && lane == 0) arrive(looked);
            const bool risen = weighTile(t);
            awaitProducts<0>();
            pin(o);
            if (lane == 0) arrive(signals.empty + previous);
            if (risen) {
#pragma unroll
                for (int i = 0; i < 32 * GROUPS; i++) o[i] *= factor[i / 2 % 2];
            }
            round();
            previous = ring.stage;
            ring.advance();
        }
        beginProducts();
        addValues(o, weights, describeValues(stages + previous * P::STAGE + P::OPERAND));
        awaitProducts<0>();
        pin(o);
        if (lane == 0) arrive(signals.empty + previous);
        store(step, item, warpRow, o, most, sum, scale);
    }

    static __device__ __forceinline__ void store(const Step& step, const Item<KEYS>& item, int warpRow,
                                                 const float (&o)[32 * GROUPS], const float (&most)[2], float (&sum)[2],
                                                 float scale) {
        const int lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4, share = step.heads / step.kvHeads;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            sum[h] += __shfl_xor_sync(~0u, sum[h], 1);
            sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
            const int r = warpRow + g + 8 * h, head = item.head(r, share);
            const float factor = normaliser(most[h] * scale, sum[h], step.sinks, head);
            __nv_bfloat16* target = step.out + item.row(r, share) * step.outStride + head * step.D;
#pragma unroll
            for (int j = 0; j < 8 * GROUPS; j += 4) {
                // Four lanes have pairs of four pieces of 8 elements; each takes a piece.
                unsigned v[4];
#pragma unroll
                for (int n = 0; n < 4; n++)
                    v[n] = packBf16(o[4 * (j + n) + 2 * h] * factor, o[4 * (j + n) + 2 * h + 1] * factor);
                exchange(v[0], v[1], c & 1, 1), exchange(v[2], v[3], c & 1, 1);
                exchange(v[0], v[2], c & 2, 2), exchange(v[1], v[3], c & 2, 2);
                if (r < item.flats() && 8 * (j + c) < step.D)
                    *reinterpret_cast<uint4*>(target + 8 * (j + c)) = uint4{v[0], v[1], v[2], v[3]};
            }
        }
    }

    // The lane `distance` away has its `a` instead of this one's `b`, if this one is the lower.
    static __device__ __forceinline__ void exchange(unsigned& a, unsigned& b, bool upper, int distance) {
        const unsigned other = __shfl_xor_sync(~0u, upper ? a : b, distance);
        if (upper) {
            a = other;
        } else {
            b = other;
        }
    }
};

#define ATTEND(GROUPS, KEYS)                                                                                         \
    Block<GROUPS, KEYS>::run(Step{q, qStride, positions, tables, tableStride, heads, kvHeads, D, cache, blockSize, \
                                  window, scale, sinks, out, outStride, tileList, tiles})

#else

#define ATTEND(GROUPS, KEYS) __trap()  // see attention_prefill.cu

#endif

}  // namespace

// attention_hopper_G_K: G groups of 64 elements of a head, K keys per tile.
#define KERNEL(GROUPS, KEYS)                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_hopper_##GROUPS##_##KEYS(         \
        ATTENTION_PARAMETERS, const int4* tileList, int tiles) {                                         \
        ATTEND(GROUPS, KEYS);                                                                            \
    }

KERNEL(1, 64)
KERNEL(1, 128)
KERNEL(2, 64)
KERNEL(2, 128)
