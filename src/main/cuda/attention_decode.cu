// Causal attention of one row per sequence over paged keys and values: softmax(scale q K^T) V, with grouped heads, windows and sinks.
//
// Shapes    q, out [rows, heads * D] bf16 with strides; positions [rows], tables [sequences, tableStride] int32; D <= 256; sinks
//           [heads] float32 or null. Position i attends to i - window + 1 .. i (window 0: all up to i).
// Layout    cache of one layer as rope.cu says.
// How       A warp takes 16 rows, a row being a query of one head; all heads of a kv head share its keys. 16 keys at a
//           time go from memory to registers and straight into mma.m16n8k16: for q K^T both operands permute the
//           head's elements alike, for P V the lanes' columns are permuted, so that every load is 16 bytes and nothing is
//           staged. Softmax is done on the way (Milakov and Gimelshein, arXiv 1805.02867).
//           One query per sequence; several blocks, splits, share a sequence's keys, and attention_combine merges.
// Bytes     keys and values once, the rest is small.
// Order     keys ascending within a warp, then warps, then splits: none depends on other sequences.

#include "attention.cuh"

namespace {

constexpr int ROWS = 16;
constexpr int KEYS = 16;
constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;

struct Cache {
    const __nv_bfloat16* keys;    // of the kv head in block 0
    const __nv_bfloat16* values;
    long long blockStride;
    const int* table;
    int blockSize, padded;

    __device__ __forceinline__ long long offset(int key) const {
        const int block = blockSize == 16 ? key >> 4 : key / blockSize;
        return table[block] * blockStride + static_cast<long long>(key - block * blockSize) * padded;
    }
};

__device__ __forceinline__ Cache cacheOf(const __nv_bfloat16* cache, int kvHeads, int kvHead, const int* table,
                                         int blockSize, int D) {
    const int padded = (D + 7) / 8 * 8;
    const long long half = static_cast<long long>(kvHeads) * blockSize * padded;
    const __nv_bfloat16* keys = cache + static_cast<long long>(kvHead) * blockSize * padded;
    return Cache{keys, keys + half, 2 * half, table, blockSize, padded};
}

// GROUPS: groups of 64 elements of a head.
template <int GROUPS>
struct Attention {
    static constexpr int CHUNKS = 2 * GROUPS;  // of 32 elements
    static constexpr int Q_STRIDE = 64 * GROUPS + 8;

    uint4 q[CHUNKS][2];
    float o[8 * GROUPS][4] = {};
    float most[2] = {-INFINITY, -INFINITY};  // of rows g and g + 8, in units of log2
    float sum[2] = {};                       // this lane's part
    int position[2];                         // -1: no such row

    __device__ __forceinline__ void loadQ(const __nv_bfloat16* staged) {
        const int lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
#pragma unroll
        for (int i = 0; i < CHUNKS; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                q[i][h] = *reinterpret_cast<const uint4*>(staged + (g + 8 * h) * Q_STRIDE + 32 * i + 8 * c);
    }

    // Keys of tiles first, first + step ... before end; last: greatest position of the rows.
    __device__ __forceinline__ void run(const Cache& cache, int first, int end, int step, int last, int window,
                                        float scale) {
        const int lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
        for (int tile = first; tile < end; tile += step) {
            const int key0 = tile * KEYS;
            uint4 k[2][CHUNKS], v[4][GROUPS];
#pragma unroll
            for (int n = 0; n < 2; n++) {
                const int key = key0 + 8 * n + g;
                const bool present = key <= last;
                const __nv_bfloat16* source = cache.keys + (present ? cache.offset(key) : 0) + 8 * c;
#pragma unroll
                for (int i = 0; i < CHUNKS; i++)
                    k[n][i] = present && 32 * i + 8 * c < cache.padded
                        ? *reinterpret_cast<const uint4*>(source + 32 * i) : uint4{};
            }
#pragma unroll
            for (int n = 0; n < 4; n++) {
                const int key = key0 + 2 * c + n % 2 + n / 2 * 8;
                const bool present = key <= last;
                const __nv_bfloat16* source = cache.values + (present ? cache.offset(key) : 0) + 8 * g;
#pragma unroll
                for (int i = 0; i < GROUPS; i++)
                    v[n][i] = present && 64 * i + 8 * g < cache.padded
                        ? *reinterpret_cast<const uint4*>(source + 64 * i) : uint4{};
            }
            float s[2][4] = {};
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int i = 0; i < CHUNKS; i++) {
                    mma(s[n], uint4{q[i][0].x, q[i][1].x, q[i][0].y, q[i][1].y}, k[n][i].x, k[n][i].y);
                    mma(s[n], uint4{q[i][0].z, q[i][1].z, q[i][0].w, q[i][1].w}, k[n][i].z, k[n][i].w);
                }
            softmax(s, key0, window, scale);
            const uint4 p{packBf16(s[0][0], s[0][1]), packBf16(s[0][2], s[0][3]), packBf16(s[1][0], s[1][1]),
                          packBf16(s[1][2], s[1][3])};
#pragma unroll
            for (int i = 0; i < GROUPS; i++) {
                const unsigned* words[4] = {&v[0][i].x, &v[1][i].x, &v[2][i].x, &v[3][i].x};
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    const unsigned pick = j % 2 ? 0x7632 : 0x5410;
                    mma(o[8 * i + j], p, __byte_perm(words[0][j / 2], words[1][j / 2], pick),
                        __byte_perm(words[2][j / 2], words[3][j / 2], pick));
                }
            }
        }
    }

    // Scores become weights relative to the rows' maxima so far.
    __device__ __forceinline__ void softmax(float (&s)[2][4], int key0, int window, float scale) {
        const int c = threadIdx.x % 4;
        float best[2] = {most[0], most[1]};
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int key = key0 + 8 * n + 2 * c + e % 2, p = position[e / 2];
                const bool seen = key <= p && (window == 0 || key > p - window);
                s[n][e] = seen ? s[n][e] * scale : -INFINITY;
                best[e / 2] = fmaxf(best[e / 2], s[n][e]);
            }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            best[h] = fmaxf(best[h], __shfl_xor_sync(~0u, best[h], 1));
            best[h] = fmaxf(best[h], __shfl_xor_sync(~0u, best[h], 2));
            const float shift = best[h] == -INFINITY ? 0 : best[h];
            const float factor = power2(most[h] - shift);
            most[h] = best[h];
            sum[h] *= factor;
#pragma unroll
            for (int i = 0; i < 8 * GROUPS; i++) o[i][2 * h] *= factor, o[i][2 * h + 1] *= factor;
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    s[n][2 * h + e] = power2(s[n][2 * h + e] - shift);
                    sum[h] += s[n][2 * h + e];
                }
        }
    }

    __device__ __forceinline__ void finishSums() {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            sum[h] += __shfl_xor_sync(~0u, sum[h], 1);
            sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
        }
    }

    // Calls use(half of the rows, element, value) for everything that this lane holds.
    template <typename Use>
    __device__ __forceinline__ void each(Use use) const {
        const int c = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < GROUPS; i++)
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) use(e / 2, 64 * i + 8 * (2 * c + e % 2) + j, o[8 * i + j][e]);
    }
};

template <int GROUPS>
__device__ __forceinline__ void decode(ATTENTION_PARAMETERS, float* partials, float2* partialSums) {
    using Work = Attention<GROUPS>;
    constexpr int WIDTH = 64 * GROUPS;
    __shared__ __align__(16) __nv_bfloat16 staged[ROWS * Work::Q_STRIDE];
    __shared__ float merged[ROWS][WIDTH + 1];
    __shared__ float mosts[WARPS][ROWS], sums[WARPS][ROWS];
    allowNextKernel();
    awaitPreviousKernel();
    const int share = heads / kvHeads, headTiles = (share + ROWS - 1) / ROWS;
    const int split = blockIdx.x, splits = gridDim.x, kvHead = blockIdx.y / headTiles, row = blockIdx.z;
    const int firstHead = kvHead * share + blockIdx.y % headTiles * ROWS;
    const int count = min(ROWS, (kvHead + 1) * share - firstHead);
    const int position = positions[row];
    if (position < 0) return;
    for (int i = threadIdx.x; i < ROWS * WIDTH; i += THREADS) {
        const int r = i / WIDTH, e = i % WIDTH;
        staged[r * Work::Q_STRIDE + e] =
            r < count && e < D ? q[row * qStride + (firstHead + r) * D + e] : __float2bfloat16_rn(0);
    }
    for (int i = threadIdx.x; i < ROWS * (WIDTH + 1); i += THREADS) (&merged[0][0])[i] = 0;
    __syncthreads();
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, c = lane % 4;
    Work work;
    work.loadQ(staged);
    work.position[0] = g < count ? position : -1;
    work.position[1] = g + 8 < count ? position : -1;
    const int begin = window == 0 ? 0 : max(0, position - window + 1) / KEYS;
    const int tiles = position / KEYS + 1 - begin, part = (tiles + splits - 1) / splits;
    const int first = begin + split * part, end = min(first + part, begin + tiles);
    work.run(cacheOf(cache, kvHeads, kvHead, tables + static_cast<long long>(row) * tableStride, blockSize, D),
             first + warp, end, WARPS, position, window, scale * LOG2E);
    work.finishSums();
    if (c == 0) {
        mosts[warp][g] = work.most[0], mosts[warp][g + 8] = work.most[1];
        sums[warp][g] = work.sum[0], sums[warp][g + 8] = work.sum[1];
    }
    __syncthreads();
    float most[2] = {-INFINITY, -INFINITY}, sum[2] = {}, factor[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        for (int w = 0; w < WARPS; w++) most[h] = fmaxf(most[h], mosts[w][g + 8 * h]);
        const float shift = most[h] == -INFINITY ? 0 : most[h];
        for (int w = 0; w < WARPS; w++) sum[h] += sums[w][g + 8 * h] * power2(mosts[w][g + 8 * h] - shift);
        factor[h] = power2(work.most[h] - shift);
    }
    for (int w = 0; w < WARPS; w++) {
        if (w == warp) work.each([&](int h, int e, float value) { merged[g + 8 * h][e] += value * factor[h]; });
        __syncthreads();
    }
    if (splits > 1) {
        const long long at = (static_cast<long long>(row) * heads + firstHead) * splits + split;
        for (int i = threadIdx.x; i < count * D; i += THREADS) {
            const int r = i / D, e = i % D;
            partials[(at + static_cast<long long>(r) * splits) * D + e] = merged[r][e];
        }
        if (warp == 0 && c == 0) {
#pragma unroll
            for (int h = 0; h < 2; h++)
                if (g + 8 * h < count)
                    partialSums[at + static_cast<long long>(g + 8 * h) * splits] = float2{most[h], sum[h]};
        }
        return;
    }
    if (warp == 0 && c == 0) {
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (g + 8 * h < count) sums[0][g + 8 * h] = normaliser(most[h], sum[h], sinks, firstHead + g + 8 * h);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count * D; i += THREADS) {
        const int r = i / D, e = i % D;
        out[row * outStride + (firstHead + r) * D + e] = __float2bfloat16_rn(merged[r][e] * sums[0][r]);
    }
}

}  // namespace

// attention_decode_G: grid (splits, kvHeads * ceil(heads / kvHeads / 16), rows); partials [rows][heads][splits][D] and
// partialSums [rows][heads][splits] of workspace if there are several splits.
// G: groups of 64 elements of a head.
#define KERNEL(GROUPS)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_decode_##GROUPS(                                  \
        ATTENTION_PARAMETERS, float* partials, float2* partialSums) {                                                 \
        decode<GROUPS>(q, qStride, positions, tables, tableStride, heads, kvHeads, D, cache, blockSize, window,       \
                       scale, sinks, out, outStride, partials, partialSums);                                          \
    }

KERNEL(1)
KERNEL(2)
KERNEL(4)

// Grid (heads, rows), D threads or more.
extern "C" __global__ void attention_combine(const float* partials, const float2* partialSums, int splits, int D,
                                             const int* positions, const float* sinks, __nv_bfloat16* out,
                                             long long outStride) {
    allowNextKernel();
    awaitPreviousKernel();
    const int head = blockIdx.x, row = blockIdx.y, e = threadIdx.x;
    if (positions[row] < 0) return;
    const long long first = (static_cast<long long>(row) * gridDim.x + head) * splits;
    float most = -INFINITY;
#pragma unroll 8
    for (int s = 0; s < splits; s++) most = fmaxf(most, partialSums[first + s].x);
    const float shift = most == -INFINITY ? 0 : most;
    float sum = 0, value = 0;
#pragma unroll 8
    for (int s = 0; s < splits; s++) {
        const float2 part = partialSums[first + s];
        const float factor = power2(part.x - shift);
        sum += part.y * factor;
        if (e < D) value += partials[(first + s) * D + e] * factor;
    }
    if (e < D) out[row * outStride + head * D + e] = __float2bfloat16_rn(value * normaliser(most, sum, sinks, head));
}
