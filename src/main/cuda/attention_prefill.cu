// Causal attention of many rows of a sequence over its paged keys and values: softmax(scale q K^T) V, with grouped heads,
// windows and sinks.
//
// Shapes    as attention_decode.cu says; tileList [tiles] int4 of up to TILE_ROWS flat rows, a flat row being a query of one of
//           the heads of a kv head: sequence; row and position of the first flat row; its place among the row's
//           heads * 256 + the tile's flat rows.
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

template <int GROUPS>
struct Plan {
    static constexpr int KEYS = GROUPS <= 2 ? 64 : 32;
    static constexpr bool KEEPS_Q = GROUPS <= 2;  // in registers
    static constexpr int PIECES = Panel<GROUPS>::PIECES;
    static constexpr int STAGE = KEYS * PIECES;                   // of keys, or of values
    static constexpr int Q_AT = KEEPS_Q ? 2 * STAGE : 4 * STAGE;  // before the second stage is filled, or for good
};

template <int GROUPS>
__device__ __forceinline__ void prefill(ATTENTION_PARAMETERS, const int4* tileList) {
    using Rows = Panel<GROUPS>;
    constexpr int KEYS = Plan<GROUPS>::KEYS, PIECES = Plan<GROUPS>::PIECES, STAGE = Plan<GROUPS>::STAGE;
    constexpr bool KEEPS_Q = Plan<GROUPS>::KEEPS_Q;
    extern __shared__ __align__(128) uint4 memory[];
    __shared__ unsigned places[2][KEYS];  // of a tile's keys in the cache, in units of 16 bytes
    allowNextKernel();
    awaitPreviousKernel();
    const int4 tile = tileList[blockIdx.x];
    const int share = heads / kvHeads, kvHead = blockIdx.y, padded = (D + 7) / 8 * 8;
    const int flats = tile.w & 0xff, skipped = tile.w >> 8;
    const int first = tile.z, last = tile.z + (skipped + flats - 1) / share;
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
    uint4* const queries = memory + Plan<GROUPS>::Q_AT;
    place(begin, places[0]);
    place(begin + 1, places[1]);
    for (int i = threadIdx.x; i < TILE_ROWS * PIECES; i += THREADS) {
        const int r = i / PIECES, piece = i % PIECES, flat = skipped + r;
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
    WarpAttention<GROUPS, KEYS, KEEPS_Q> work;
    const int flat = warp * WARP_ROWS;  // in the tile
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int f = flat + g + 8 * h;
        work.position[h] = f < flats ? tile.z + (skipped + f) / share : -1;
    }
    const bool idle = flat >= flats;
    const int warpFirst = idle ? 0 : tile.z + (skipped + flat) / share;
    const int warpLast = idle ? -1 : tile.z + (skipped + min(flat + WARP_ROWS, flats) - 1) / share;
    const float scale2 = scale * LOG2E;
    if (KEEPS_Q) {
        awaitCopies<0>();
        __syncthreads();
        work.keep(queries + flat * PIECES);
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
        work.score(stage, queries + flat * PIECES, s);
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
        const float factor = normaliser(work.most[h] * scale2, sum, sinks, kvHead * share + (skipped + r) % share);
#pragma unroll
        for (int i = 0; i < 8 * GROUPS; i++)
            reinterpret_cast<unsigned*>(Rows::at(memory, r, i))[c] =
                packBf16(work.o[i][2 * h] * factor, work.o[i][2 * h + 1] * factor);
    }
    __syncwarp();
    for (int i = lane; i < WARP_ROWS * PIECES; i += WARP) {
        const int r = flat + i / PIECES, piece = i % PIECES, f = skipped + r;
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
