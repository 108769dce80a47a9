// What lies between the projections and attention: bounds, norms of heads, rotation, and writing keys and values to the
// cache.
//
// Shapes    q [rows, heads * D], k, v [rows, kvHeads * D] bf16 with strides; positions, sequence [rows], tables [sequences,
//           tableStride] int32; turns [D / 2] double: turns of each pair per position; D even, at most 256.
// Layout    cache [blocks][2 (k, v)][kvHeads][blockSize][Dp] bf16 of one layer, Dp = D rounded up to 8.
// Meaning   x bounded to -bound .. bound (0: not); q and k RMS-normalised per head if there are weights; element i of a head turns
//           with element i + D / 2 by position * turns[i], cos and sin times magnitude. q and k are also written back.
//           Rows of position -1 are padding: nothing is done.
// How       A warp takes heads of one row. Where D is a multiple of 16, a lane takes 8 elements and the 8 they turn with of
//           each of its heads, and loads those of several heads before it works on them; elsewhere it takes single elements or
//           pairs of a head that the whole warp shares. A lane's places are the same in all heads, so that it computes its
//           cosines and sines once, while the kernel before still runs. That one writes neither positions nor tables.
// Bytes     q and k twice, v once, keys and values once.

#include "rope.cuh"

namespace {

constexpr int MAX_HALF = 128;
constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP;
constexpr int HEADS = 4;  // that a lane loads at a time

// VEC neighbouring elements.
template <int VEC>
struct Elements {
    float v[VEC];

    __device__ __forceinline__ void load(const __nv_bfloat16* source) {
        if constexpr (VEC == 2) {
            const float2 pair = unpackBf16(*reinterpret_cast<const unsigned*>(source));
            v[0] = pair.x, v[1] = pair.y;
        } else {
            v[0] = __bfloat162float(*source);
        }
    }

    __device__ __forceinline__ void store(__nv_bfloat16* target) const {
        if constexpr (VEC == 2) {
            *reinterpret_cast<unsigned*>(target) = packBf16(v[0], v[1]);
        } else {
            *target = __float2bfloat16_rn(v[0]);
        }
    }
};

struct Rope {
    __nv_bfloat16 *q, *k, *v;
    long long qStride, kStride, vStride;
    int heads, kvHeads, D;
    const float *qNorm, *kNorm;
    float bound, eps;
    __nv_bfloat16* cache;
    int blockSize;

    template <int VEC>
    __device__ __forceinline__ void run(int row, int part, int parts, int position, int block, const double* turns,
                                        float magnitude) const {
        constexpr int UNITS = MAX_HALF / (WARP * VEC);
        const int lane = threadIdx.x % WARP, half = D / 2, padded = (D + 7) / 8 * 8;
        float cosine[UNITS][VEC], sine[UNITS][VEC];
#pragma unroll
        for (int u = 0; u < UNITS; u++)
#pragma unroll
            for (int e = 0; e < VEC; e++) {
                const int i = (u * WARP + lane) * VEC + e;
                const double turn = i < half ? position * turns[i] : 0;
                sincospif(2.0f * static_cast<float>(turn - rint(turn)), &sine[u][e], &cosine[u][e]);
                sine[u][e] *= magnitude, cosine[u][e] *= magnitude;
            }
        __nv_bfloat16* keys = cache + static_cast<long long>(block) * 2 * kvHeads * blockSize * padded;
        awaitPreviousKernel();
        const int total = heads + 2 * kvHeads, step = parts;
        for (int head = part; head < total; head += HEADS * step) {
            Elements<VEC> first[HEADS][UNITS], second[HEADS][UNITS];
#pragma unroll
            for (int n = 0; n < HEADS; n++)
#pragma unroll
                for (int u = 0; u < UNITS; u++) {
                    const int i = (u * WARP + lane) * VEC;
                    first[n][u] = second[n][u] = {};
                    if (i >= half || head + n * step >= total) continue;
                    const __nv_bfloat16* x = source(row, head + n * step);
                    first[n][u].load(x + i), second[n][u].load(x + half + i);
                }
#pragma unroll
            for (int n = 0; n < HEADS; n++)
                if (head + n * step < total)
                    finish<VEC>(row, head + n * step, keys, position % blockSize, first[n], second[n], cosine, sine);
        }
    }

    // LANES of a warp per head: each has 8 elements and the 8 that these turn with.
    template <int LANES>
    __device__ __forceinline__ void runWide(int row, int part, int parts, int position, int block, const double* turns,
                                            float magnitude) const {
        constexpr int AT_ONCE = WARP / LANES;  // heads
        const int lane = threadIdx.x % WARP, half = D / 2, i = lane % LANES * 8, total = heads + 2 * kvHeads;
        const bool active = i < half;
        Angles angles;
        angles.load(turns, position, i, active, magnitude);
        int head = part * AT_ONCE + lane / LANES;
        Norm norm;
        if (active && head < total) norm.load(weights(head), i, half);
        __nv_bfloat16* keys = cache + static_cast<long long>(block) * 2 * kvHeads * blockSize * D;
        const int place = position % blockSize, step = parts * AT_ONCE;
        awaitPreviousKernel();
        for (int base = part * AT_ONCE; base < total; base += HEADS * step, head += HEADS * step) {
            uint4 first[HEADS], second[HEADS];
#pragma unroll
            for (int n = 0; n < HEADS; n++) {
                first[n] = second[n] = {};
                if (!active || head + n * step >= total) continue;
                const __nv_bfloat16* x = source(row, head + n * step) + i;
                first[n] = loadPieces(x), second[n] = loadPieces(x + half);
            }
#pragma unroll
            for (int n = 0; n < HEADS; n++) {
                if (base + n * step >= total) break;
                const int own = head + n * step;
                const bool present = active && own < total;
                if (present) norm.load(weights(own), i, half);
                finishWide<LANES>(row, own, present, keys, place, i, norm, first[n], second[n], angles);
            }
        }
    }

    __device__ __forceinline__ const float* weights(int head) const {
        return head < heads ? qNorm : head < heads + kvHeads ? kNorm : nullptr;
    }

    template <int LANES>
    __device__ __forceinline__ void finishWide(int row, int head, bool present, __nv_bfloat16* keys, int place, int i,
                                               const Norm& norm, uint4 first, uint4 second,
                                               const Angles& angles) const {
        const int half = D / 2;
        const bool isQuery = head < heads, isValue = head >= heads + kvHeads;
        prepareHead<LANES>(first, second, bound, qNorm != nullptr || kNorm != nullptr, norm, eps, D, !isValue, angles);
        if (!present) return;
        if (!isValue || bound > 0) {
            __nv_bfloat16* x = source(row, head) + i;
            *reinterpret_cast<uint4*>(x) = first, *reinterpret_cast<uint4*>(x + half) = second;
        }
        if (!isQuery) {
            // Heads of keys, then those of values.
            __nv_bfloat16* target = keys + (static_cast<long long>(head - heads) * blockSize + place) * D + i;
            *reinterpret_cast<uint4*>(target) = first, *reinterpret_cast<uint4*>(target + half) = second;
        }
    }

    __device__ __forceinline__ __nv_bfloat16* source(int row, int head) const {
        return head < heads ? q + row * qStride + head * D
            : head < heads + kvHeads ? k + row * kStride + (head - heads) * D
                                     : v + row * vStride + (head - heads - kvHeads) * D;
    }

    template <int VEC, int UNITS>
    __device__ __forceinline__ void finish(int row, int head, __nv_bfloat16* keys, int place, Elements<VEC> (&first)[UNITS],
                                           Elements<VEC> (&second)[UNITS], const float (&cosine)[UNITS][VEC],
                                           const float (&sine)[UNITS][VEC]) const {
        const int lane = threadIdx.x % WARP, half = D / 2, padded = (D + 7) / 8 * 8;
        const bool isQuery = head < heads, isValue = head >= heads + kvHeads;
        float squares = 0;
#pragma unroll
        for (int u = 0; u < UNITS; u++)
#pragma unroll
            for (int e = 0; e < VEC; e++) {
                float &a = first[u].v[e], &b = second[u].v[e];
                if (bound > 0) a = fminf(fmaxf(a, -bound), bound), b = fminf(fmaxf(b, -bound), bound);
                squares += a * a + b * b;
            }
        const float* norm = isQuery ? qNorm : isValue ? nullptr : kNorm;
        if (norm != nullptr) {
#pragma unroll
            for (int i = WARP / 2; i > 0; i /= 2) squares += __shfl_xor_sync(~0u, squares, i);
            const float factor = rsqrtf(squares / D + eps);
#pragma unroll
            for (int u = 0; u < UNITS; u++)
#pragma unroll
                for (int e = 0; e < VEC; e++) {
                    const int i = (u * WARP + lane) * VEC + e;
                    if (i < half) first[u].v[e] *= factor * norm[i], second[u].v[e] *= factor * norm[half + i];
                }
        }
        __nv_bfloat16* x = source(row, head);
        // Heads of keys, then those of values.
        __nv_bfloat16* target = isQuery ? nullptr
            : keys + (static_cast<long long>(head - heads) * blockSize + place) * padded;
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
            const int i = (u * WARP + lane) * VEC;
            if (i >= half) continue;
            if (!isValue) {
#pragma unroll
                for (int e = 0; e < VEC; e++) {
                    const float a = first[u].v[e], b = second[u].v[e];
                    first[u].v[e] = a * cosine[u][e] - b * sine[u][e];
                    second[u].v[e] = b * cosine[u][e] + a * sine[u][e];
                }
            }
            if (!isValue || bound > 0) first[u].store(x + i), second[u].store(x + half + i);
            if (!isQuery) first[u].store(target + i), second[u].store(target + half + i);
        }
    }
};

}  // namespace

// Grid (ceil(rows * parts / 8)), 256 threads: `parts` warps share a row's heads.
extern "C" __global__ void __launch_bounds__(THREADS)
    rope_store(__nv_bfloat16* q, long long qStride, __nv_bfloat16* k, long long kStride, __nv_bfloat16* v,
               long long vStride, const int* positions, const int* sequence, const int* tables, int tableStride,
               int heads, int kvHeads, int D, const double* turns, float magnitude, float bound, const float* qNorm,
               const float* kNorm, float eps, __nv_bfloat16* cache, int blockSize, int rows, int parts) {
    allowNextKernel();
    const int task = blockIdx.x * WARPS + threadIdx.x / WARP, row = task / parts, part = task % parts;
    const int position = row < rows ? positions[row] : -1;
    if (position < 0) {
        awaitPreviousKernel();
        return;
    }
    const int block = tables[static_cast<long long>(sequence[row]) * tableStride + position / blockSize];
    const Rope rope{q, k, v, qStride, kStride, vStride, heads, kvHeads, D, qNorm, kNorm, bound, eps, cache, blockSize};
    if (D % 16 == 0) {
        if (D <= 64) {
            rope.runWide<4>(row, part, parts, position, block, turns, magnitude);
        } else if (D <= 128) {
            rope.runWide<8>(row, part, parts, position, block, turns, magnitude);
        } else {
            rope.runWide<16>(row, part, parts, position, block, turns, magnitude);
        }
    } else if (D % 4 == 0) {
        rope.run<2>(row, part, parts, position, block, turns, magnitude);
    } else {
        rope.run<1>(row, part, parts, position, block, turns, magnitude);
    }
}
