// Causal attention of many rows of a sequence over its paged keys and values: softmax(scale q K^T) V, with grouped heads,
// windows and sinks.
//
// Shapes    as attention_decode.cu says; tileList [tiles] int4: sequence, its first row, its rows, and the first of the
//           tile's TILE_ROWS flat rows, a flat row being a query of one of the heads of a kv head: row * share + head.
// Limits    D <= 256, scale > 0.
// How       Four warps of 16 flat rows share tiles of keys and values, which cp.async brings one tile ahead to shared
//           memory, in rows whose 16-byte pieces are permuted so that ldmatrix meets no bank conflicts. Softmax is done on the
//           way (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135).
// Bytes     keys and values once per tile from the L2: arithmetic is the limit, 4 D per query and key.
// Order     keys ascending in tiles that begin at multiples of their size: a row's result depends on no other row.

#include "attention.cuh"

namespace {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr int WARP_ROWS = 16;
constexpr int TILE_ROWS = WARPS * WARP_ROWS;

__device__ __forceinline__ unsigned sharedAddress(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Four 8 x 8 matrices, whose rows the lanes' addresses name.
__device__ __forceinline__ uint4 loadMatrices(const void* row) {
    uint4 m;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.x), "=r"(m.y), "=r"(m.z), "=r"(m.w)
                 : "r"(sharedAddress(row)) : "memory");
    return m;
}

__device__ __forceinline__ uint4 loadTransposed(const void* row) {
    uint4 m;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.x), "=r"(m.y), "=r"(m.z), "=r"(m.w)
                 : "r"(sharedAddress(row)) : "memory");
    return m;
}

// Rows of 64 * GROUPS elements in shared memory.
template <int GROUPS>
struct Panel {
    static constexpr int PIECES = 8 * GROUPS;  // of 8 elements

    template <typename Piece>
    __device__ __forceinline__ static Piece* at(Piece* panel, int row, int piece) {
        return panel + row * PIECES + (piece ^ (row & 7));
    }
};

// GROUPS: groups of 64 elements of a head.
template <int GROUPS>
struct Prefill {
    using Rows = Panel<GROUPS>;
    static constexpr int PIECES = Rows::PIECES;
    static constexpr int KEYS = GROUPS <= 2 ? 64 : 32;
    static constexpr bool KEEPS_Q = GROUPS <= 2;  // in registers
    static constexpr int STAGE = KEYS * PIECES;   // of keys, or of values
    static constexpr int Q_AT = KEEPS_Q ? 2 * STAGE : 4 * STAGE;  // before the second stage is filled, or for good

    uint4 q[KEEPS_Q ? 4 * GROUPS : 1];
    float o[8 * GROUPS][4] = {};
    float most[2] = {-INFINITY, -INFINITY};  // of rows g and g + 8, not scaled
    float sum[2] = {};                       // this lane's part
    int position[2];                         // -1: no such row

    // Scores of the tile's keys.
    __device__ __forceinline__ void score(const uint4* keys, const uint4* queries, float (&s)[KEYS / 8][4]) const {
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
#pragma unroll
        for (int k = 0; k < 4 * GROUPS; k++) {
            const uint4 a = KEEPS_Q ? q[KEEPS_Q ? k : 0]
                                    : loadMatrices(Rows::at(queries, warp * WARP_ROWS + lane % 16, 2 * k + lane / 16));
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                const uint4 b = loadMatrices(Rows::at(keys, 16 * n + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
                mma(s[2 * n], a, b.x, b.y);
                mma(s[2 * n + 1], a, b.z, b.w);
            }
        }
    }

    // Drops keys that the rows do not see.
    __device__ __forceinline__ void mask(float (&s)[KEYS / 8][4], int key0, int window) const {
        const int c = threadIdx.x % 4;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int key = key0 + 8 * n + 2 * c + e % 2, p = position[e / 2];
                if (key > p || (window != 0 && key <= p - window)) s[n][e] = -INFINITY;
            }
    }

    // Scores become weights relative to the rows' maxima so far; scale in units of log2.
    __device__ __forceinline__ void softmax(float (&s)[KEYS / 8][4], float scale) {
        float best[2] = {most[0], most[1]};
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) best[e / 2] = fmaxf(best[e / 2], s[n][e]);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            best[h] = fmaxf(best[h], __shfl_xor_sync(~0u, best[h], 1));
            best[h] = fmaxf(best[h], __shfl_xor_sync(~0u, best[h], 2));
        }
        const float shift[2] = {best[0] == -INFINITY ? 0 : best[0] * scale, best[1] == -INFINITY ? 0 : best[1] * scale};
        if (__any_sync(~0u, best[0] != most[0] || best[1] != most[1])) {
            const float factor[2] = {power2(most[0] * scale - shift[0]), power2(most[1] * scale - shift[1])};
#pragma unroll
            for (int i = 0; i < 8 * GROUPS; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) o[i][e] *= factor[e / 2];
            sum[0] *= factor[0], sum[1] *= factor[1];
            most[0] = best[0], most[1] = best[1];
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[n][e] = power2(fmaf(s[n][e], scale, -shift[e / 2]));
                sum[e / 2] += s[n][e];
            }
    }

    __device__ __forceinline__ void addValues(const uint4* values, const float (&s)[KEYS / 8][4]) {
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            const uint4 p{packBf16(s[2 * k][0], s[2 * k][1]), packBf16(s[2 * k][2], s[2 * k][3]),
                          packBf16(s[2 * k + 1][0], s[2 * k + 1][1]), packBf16(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
            for (int n = 0; n < 4 * GROUPS; n++) {
                const uint4 b = loadTransposed(Rows::at(values, 16 * k + lane % 16, 2 * n + lane / 16));
                mma(o[2 * n], p, b.x, b.y);
                mma(o[2 * n + 1], p, b.z, b.w);
            }
        }
    }
};

template <int GROUPS>
__device__ __forceinline__ void prefill(ATTENTION_PARAMETERS, const int4* tileList) {
    using Work = Prefill<GROUPS>;
    using Rows = Panel<GROUPS>;
    constexpr int KEYS = Work::KEYS, PIECES = Work::PIECES, STAGE = Work::STAGE;
    extern __shared__ __align__(128) uint4 memory[];
    __shared__ unsigned places[2][KEYS];  // of a tile's keys in the cache, in units of 16 bytes
    allowNextKernel();
    awaitPreviousKernel();
    const int4 tile = tileList[blockIdx.x];
    const int share = heads / kvHeads, kvHead = blockIdx.y, padded = (D + 7) / 8 * 8;
    const int flats = min(tile.z * share - tile.w, TILE_ROWS);
    const int first = positions[tile.y + tile.w / share];
    const int last = positions[tile.y + (tile.w + flats - 1) / share];
    const int begin = window == 0 ? 0 : max(0, first - window + 1) / KEYS, end = last / KEYS + 1;
    const int* table = tables + static_cast<long long>(tile.x) * tableStride;
    const int headPieces = blockSize * (padded / 8), blockPieces = 2 * kvHeads * headPieces;
    const uint4* keys = reinterpret_cast<const uint4*>(cache) + kvHead * headPieces;
    const uint4* values = keys + kvHeads * headPieces;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;

    auto place = [&](int t, unsigned* target) {
        const int key = t * KEYS + threadIdx.x;
        if (threadIdx.x >= KEYS || key > last) return;
        const int block = key / blockSize;
        target[threadIdx.x] = static_cast<unsigned>(table[block]) * blockPieces + (key - block * blockSize) * (padded / 8);
    };
    auto fetch = [&](int t, const unsigned* from, uint4* stage) {
#pragma unroll
        for (int i = 0; i < STAGE / THREADS; i++) {
            const int row = (threadIdx.x + i * THREADS) / PIECES, piece = threadIdx.x % PIECES;
            const bool present = t * KEYS + row <= last && 8 * piece < padded;
            const long long at = present ? from[row] + static_cast<long long>(piece) : 0;
            copyAsync(Rows::at(stage, row, piece), keys + at, present);
            copyAsync(Rows::at(stage + STAGE, row, piece), values + at, present);
        }
    };

    // Queries, and the first tile.
    uint4* const queries = memory + Work::Q_AT;
    place(begin, places[0]);
    place(begin + 1, places[1]);
    for (int i = threadIdx.x; i < TILE_ROWS * PIECES; i += THREADS) {
        const int r = i / PIECES, piece = i % PIECES, flat = tile.w + r;
        const bool present = r < flats && 8 * piece < D;
        const __nv_bfloat16* source = present
            ? q + (tile.y + flat / share) * qStride + (kvHead * share + flat % share) * D + 8 * piece : q;
        if (D % 8 == 0) {
            copyAsync(Rows::at(queries, r, piece), source, present);
        } else {
            __nv_bfloat16* target = reinterpret_cast<__nv_bfloat16*>(Rows::at(queries, r, piece));
            for (int e = 0; e < 8; e++) target[e] = present && 8 * piece + e < D ? source[e] : __float2bfloat16_rn(0);
        }
    }
    __syncthreads();
    fetch(begin, places[0], memory);
    commitCopies();
    Work work;
    const int flat = warp * WARP_ROWS;  // in the tile
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int f = flat + g + 8 * h;
        work.position[h] = f < flats ? positions[tile.y + (tile.w + f) / share] : -1;
    }
    const bool idle = flat >= flats;
    const int warpFirst = idle ? 0 : positions[tile.y + (tile.w + flat) / share];
    const int warpLast = idle ? -1 : positions[tile.y + (tile.w + min(flat + WARP_ROWS, flats) - 1) / share];
    const float scale2 = scale * LOG2E;
    if (Work::KEEPS_Q) {
        awaitCopies<0>();
        __syncthreads();
#pragma unroll
        for (int k = 0; k < 4 * GROUPS; k++)
            work.q[Work::KEEPS_Q ? k : 0] = loadMatrices(Rows::at(queries, flat + lane % 16, 2 * k + lane / 16));
    }
    for (int t = begin; t < end; t++) {
        const int now = (t - begin) % 2, key0 = t * KEYS;
        uint4* stage = memory + now * 2 * STAGE;
        awaitCopies<0>();
        __syncthreads();  // All have the tile before this one behind them.
        if (t + 1 < end) {
            fetch(t + 1, places[1 - now], memory + (1 - now) * 2 * STAGE);
            commitCopies();
        }
        place(t + 2, places[now]);
        if (key0 > warpLast || (window != 0 && key0 + KEYS - 1 <= warpFirst - window)) continue;
        float s[KEYS / 8][4] = {};
        work.score(stage, queries, s);
        const bool whole = flat + WARP_ROWS <= flats && key0 + KEYS - 1 <= warpFirst
            && (window == 0 || key0 > warpLast - window);
        if (!whole) work.mask(s, key0, window);
        work.softmax(s, scale2);
        work.addValues(stage + STAGE, s);
    }

    __syncthreads();
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int r = flat + g + 8 * h;
        float sum = work.sum[h];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        const float factor = normaliser(work.most[h] * scale2, sum, sinks, kvHead * share + (tile.w + r) % share);
#pragma unroll
        for (int i = 0; i < 8 * GROUPS; i++)
            reinterpret_cast<unsigned*>(Rows::at(memory, r, i))[c] =
                packBf16(work.o[i][2 * h] * factor, work.o[i][2 * h + 1] * factor);
    }
    __syncwarp();
    for (int i = lane; i < WARP_ROWS * PIECES; i += WARP) {
        const int r = flat + i / PIECES, piece = i % PIECES, f = tile.w + r;
        if (r >= flats || 8 * piece >= D) continue;
        const uint4* source = Rows::at(memory, r, piece);
        __nv_bfloat16* target = out + (tile.y + f / share) * outStride + (kvHead * share + f % share) * D + 8 * piece;
        if (D % 8 == 0) {
            *reinterpret_cast<uint4*>(target) = *source;
        } else {
            for (int e = 0; e < min(8, D - 8 * piece); e++) target[e] = reinterpret_cast<const __nv_bfloat16*>(source)[e];
        }
    }
}

}  // namespace

// attention_prefill_G: grid (tiles, kvHeads), G groups of 64 elements of a head, dynamic shared memory 32, 64, 96 KiB for
// G = 1, 2, 4. BLOCKS: of a multiprocessor.
#define KERNEL(GROUPS, BLOCKS)                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) attention_prefill_##GROUPS(                         \
        ATTENTION_PARAMETERS, const int4* tileList) {                                                                 \
        prefill<GROUPS>(q, qStride, positions, tables, tableStride, heads, kvHeads, D, cache, blockSize, window,      \
                        scale, sinks, out, outStride, tileList);                                                      \
    }

KERNEL(1, 4)
KERNEL(2, 2)
KERNEL(4, 2)
