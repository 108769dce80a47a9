// What lies between the projections and attention: bounds, norms of heads, rotation, and writing keys and values to the
// cache.
//
// Shapes    q [rows, heads * D], k, v [rows, kvHeads * D] bf16 with strides; positions, sequence [rows], tables [sequences,
//           tableStride] int32; turns [D / 2] double: turns of each pair per position; D even, at most 256.
// Layout    cache [blocks][2 (k, v)][kvHeads][blockSize][Dp] bf16 of one layer, Dp = D rounded up to 8.
// Meaning   x bounded to -bound .. bound (0: not); q and k RMS-normalised per head if there are weights; element i of a head turns
//           with element i + D / 2 by position * turns[i], cos and sin times magnitude. q and k are also written back.
//           Rows of position -1 are padding: nothing is done.
// Bytes     q and k twice, v once, keys and values once.

#include "device.cuh"

namespace {

constexpr int MAX_HALF = 128;
constexpr int THREADS = 256;
constexpr int PER_LANE = MAX_HALF / WARP;

__device__ __forceinline__ float bounded(float v, float bound) { return bound > 0 ? fminf(fmaxf(v, -bound), bound) : v; }

}  // namespace

// Grid (rows, parts of the heads).
extern "C" __global__ void __launch_bounds__(THREADS)
    rope_store(__nv_bfloat16* q, long long qStride, __nv_bfloat16* k, long long kStride, __nv_bfloat16* v,
               long long vStride, const int* positions, const int* sequence, const int* tables, int tableStride,
               int heads, int kvHeads, int D, const double* turns, float magnitude, float bound, const float* qNorm,
               const float* kNorm, float eps, __nv_bfloat16* cache, int blockSize) {
    __shared__ float cosines[MAX_HALF], sines[MAX_HALF];
    allowNextKernel();
    awaitPreviousKernel();
    const int row = blockIdx.x, position = positions[row];
    if (position < 0) return;
    const int half = D / 2, padded = (D + 7) / 8 * 8;
    for (int i = threadIdx.x; i < half; i += THREADS) {
        const double turn = position * turns[i];
        const float angle = 2.0f * static_cast<float>(turn - rint(turn));
        float sine, cosine;
        sincospif(angle, &sine, &cosine);
        cosines[i] = cosine * magnitude;
        sines[i] = sine * magnitude;
    }
    __syncthreads();
    const int block = tables[static_cast<long long>(sequence[row]) * tableStride + position / blockSize];
    const int offset = position % blockSize;
    __nv_bfloat16* keys = cache + static_cast<long long>(block) * 2 * kvHeads * blockSize * padded;
    __nv_bfloat16* values = keys + static_cast<long long>(kvHeads) * blockSize * padded;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    for (int head = blockIdx.y * (THREADS / WARP) + warp; head < heads + 2 * kvHeads;
         head += gridDim.y * (THREADS / WARP)) {
        if (head >= heads + kvHeads) {
            const int h = head - heads - kvHeads;
            __nv_bfloat16* source = v + row * vStride + h * D;
            __nv_bfloat16* target = values + static_cast<long long>(h * blockSize + offset) * padded;
            for (int i = lane; i < D; i += WARP) {
                const __nv_bfloat16 value = __float2bfloat16_rn(bounded(__bfloat162float(source[i]), bound));
                target[i] = value;
                if (bound > 0) source[i] = value;
            }
            continue;
        }
        const bool isKey = head >= heads;
        __nv_bfloat16* x = isKey ? k + row * kStride + (head - heads) * D : q + row * qStride + head * D;
        const float* norm = isKey ? kNorm : qNorm;
        float first[PER_LANE], second[PER_LANE];
        float squares = 0;
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) {
            const int i = lane + j * WARP;
            first[j] = i < half ? bounded(__bfloat162float(x[i]), bound) : 0;
            second[j] = i < half ? bounded(__bfloat162float(x[i + half]), bound) : 0;
            squares += first[j] * first[j] + second[j] * second[j];
        }
        if (norm != nullptr) {
#pragma unroll
            for (int i = WARP / 2; i > 0; i /= 2) squares += __shfl_xor_sync(~0u, squares, i);
            const float factor = rsqrtf(squares / D + eps);
#pragma unroll
            for (int j = 0; j < PER_LANE; j++) {
                const int i = lane + j * WARP;
                if (i < half) first[j] *= factor * norm[i], second[j] *= factor * norm[i + half];
            }
        }
        __nv_bfloat16* target = isKey ? keys + static_cast<long long>((head - heads) * blockSize + offset) * padded : nullptr;
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) {
            const int i = lane + j * WARP;
            if (i >= half) continue;
            const __nv_bfloat16 a = __float2bfloat16_rn(first[j] * cosines[i] - second[j] * sines[i]);
            const __nv_bfloat16 b = __float2bfloat16_rn(second[j] * cosines[i] + first[j] * sines[i]);
            x[i] = a, x[i + half] = b;
            if (isKey) target[i] = a, target[i + half] = b;
        }
    }
}
