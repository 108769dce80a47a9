// Element-wise operators and norms over rows of activations.
//
// Shapes    matrices [rows, cols] of bf16 or float32, as a flag per matrix says, row strides in elements; weights of norms
//           [cols] float32, padded with zeros to a multiple of 8; the embedding table [vocab, stride] bf16.
// Layout    rows are aligned to 16 bytes and padded with zeros to a multiple of 8 columns, which the kernels keep.
// Limits    norms: 32768 columns. rows * ceil(cols / 8) < 2^31.
// Bytes     every input once, every output once; a norm holds its row in registers between its two looks at it.
// Order     sums of a norm run over a thread's values, lanes and warps; how many threads there are depends on cols only.

#include "activation.cuh"
#include "norm.cuh"

constexpr int ELEMENT_THREADS = 256;

// out[i] = table[tokens[i]]; a token that does not exist gives zeros.
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    embed(const __nv_bfloat16* table, long long tableStride, int vocab, const int* tokens, int rows, int cols, void* out,
          long long outStride, int outWide) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(rows, vectors(cols));
    if (!p.present) return;
    const int token = tokens[p.row];
    float v[VECTOR] = {};
    if (token >= 0 && token < vocab) loadVector(rowOf(table, tableStride, token, false), p.piece, false, v);
    storeVector(rowOf(out, outStride, p.row, outWide), p.piece, outWide, v);
}

// y += x
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    add(const void* x, long long xStride, int xWide, int rows, int cols, void* y, long long yStride, int yWide) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(rows, vectors(cols));
    if (!p.present) return;
    char* target = rowOf(y, yStride, p.row, yWide);
    float a[VECTOR], b[VECTOR];
    loadVector(rowOf(x, xStride, p.row, xWide), p.piece, xWide, a);
    loadVector(target, p.piece, yWide, b);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) b[i] += a[i];
    storeVector(target, p.piece, yWide, b);
}

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    clamp(void* x, long long stride, int wide, int rows, int cols, float bound) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(rows, vectors(cols));
    if (!p.present) return;
    char* target = rowOf(x, stride, p.row, wide);
    float v[VECTOR];
    loadVector(target, p.piece, wide, v);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) v[i] = bounded(v[i], -bound, bound);
    storeVector(target, p.piece, wide, v);
}

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    zero(void* x, long long stride, int wide, int rows, int cols) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(rows, vectors(cols));
    if (!p.present) return;
    const float v[VECTOR] = {};
    storeVector(rowOf(x, stride, p.row, wide), p.piece, wide, v);
}

// out = activation(gate, up); out may be gate or up.
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    gated_activation(int activation, const void* gate, long long gateStride, int gateWide, const void* up,
                     long long upStride, int upWide, int rows, int cols, void* out, long long outStride, int outWide) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(rows, vectors(cols));
    if (!p.present) return;
    float g[VECTOR], u[VECTOR];
    loadVector(rowOf(gate, gateStride, p.row, gateWide), p.piece, gateWide, g);
    loadVector(rowOf(up, upStride, p.row, upWide), p.piece, upWide, u);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) g[i] = gated(activation, g[i], u[i]);
    storeVector(rowOf(out, outStride, p.row, outWide), p.piece, outWide, g);
}

// Of all threads of the block, in every thread. Each use needs shared memory of its own.
__device__ __forceinline__ float sumOfBlock(float v, float (&sums)[NORM_WARPS]) {
    v = sumOfWarp(v);
    if (threadIdx.x < NORM_WARPS && threadIdx.x >= blockDim.x / WARP) sums[threadIdx.x] = 0;
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = v;
    __syncthreads();
    return sumOfWarps(sums);
}

// One block per row. y not null: y += x, then the norm of y. COUNT: vectors of a thread.
template <int COUNT>
__device__ __forceinline__ void norm(const void* x, long long xStride, bool xWide, void* y, long long yStride, bool yWide,
                                     const float* __restrict__ weight, int cols, float eps, bool layer, void* out,
                                     long long outStride, bool outWide) {
    __shared__ alignas(16) float sums[2][NORM_WARPS];
    allowNextKernel();
    const int end = vectors(cols);
    constexpr bool EARLY = COUNT <= 2;  // more weights than that would take too many registers
    float w[EARLY ? COUNT : 1][VECTOR];
    if (EARLY) {
#pragma unroll
        for (int k = 0; k < COUNT; k++) {
            const int vector = k * blockDim.x + threadIdx.x;
            if (vector < end) loadVector(reinterpret_cast<const char*>(weight), vector, true, w[k]);
        }
    }
    awaitPreviousKernel();

    const int row = blockIdx.x;
    const char* source = rowOf(x, xStride, row, xWide);
    char* residual = y == nullptr ? nullptr : rowOf(y, yStride, row, yWide);
    float v[COUNT][VECTOR];
#pragma unroll
    for (int k = 0; k < COUNT; k++) {  // all loads before the first store
        const int vector = k * blockDim.x + threadIdx.x;
#pragma unroll
        for (int i = 0; i < VECTOR; i++) v[k][i] = 0;
        if (vector >= end) continue;
        loadVector(source, vector, xWide, v[k]);
        if (residual == nullptr) continue;
        float old[VECTOR];
        loadVector(residual, vector, yWide, old);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) v[k][i] += old[i];
    }
    if (residual != nullptr) {
#pragma unroll
        for (int k = 0; k < COUNT; k++) {
            const int vector = k * blockDim.x + threadIdx.x;
            if (vector >= end) continue;
            storeVector(residual, vector, yWide, v[k]);
            if (!yWide) unpack(pack(v[k]), v[k]);  // the norm is of what y holds
        }
    }
    float mean = 0;
    if (layer) {
        float sum = 0;
#pragma unroll
        for (int k = 0; k < COUNT; k++)
#pragma unroll
            for (int i = 0; i < VECTOR; i++) sum += v[k][i];
        mean = sumOfBlock(sum, sums[0]) / cols;
    }
    float squares = 0;
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
        const int vector = k * blockDim.x + threadIdx.x;
        if (vector >= end) continue;
#pragma unroll
        for (int i = 0; i < VECTOR; i++) v[k][i] -= mean;
        maskTail(vector, cols, v[k]);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) squares += v[k][i] * v[k][i];
    }
    const float factor = 1 / sqrtf(sumOfBlock(squares, sums[1]) / cols + eps);
    char* target = rowOf(out, outStride, row, outWide);
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
        const int vector = k * blockDim.x + threadIdx.x;
        if (vector >= end) continue;
        if (!EARLY) loadVector(reinterpret_cast<const char*>(weight), vector, true, w[0]);
        const float(&scale)[VECTOR] = w[EARLY ? k : 0];
#pragma unroll
        for (int i = 0; i < VECTOR; i++) v[k][i] = v[k][i] * factor * scale[i];
        maskTail(vector, cols, v[k]);
        storeVector(target, vector, outWide, v[k]);
    }
}

#define NORM(COUNT)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(NORM_THREADS)                                                           \
        norm_##COUNT(const void* x, long long xStride, int xWide, void* y, long long yStride, int yWide,                 \
                     const float* weight, int cols, float eps, int layer, void* out, long long outStride, int outWide) { \
        norm<COUNT>(x, xStride, xWide, y, yStride, yWide, weight, cols, eps, layer, out, outStride, outWide);            \
    }
NORM(1)
NORM(2)
NORM(4)
NORM(8)

constexpr int HEAD_THREADS = 128;
constexpr int HEAD_VECTORS = 4;  // of a lane

// Norm of each head of each row, in place. Heads of a multiple of 8 up to 1024 values stay in registers. lanes: threads of a
// head, a power of 2 up to 32: those that its vectors need, if they fit.
extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    rms_norm_heads(void* x, long long stride, int wide, const float* __restrict__ weight, int size, int heads, int rows,
                   int lanes, float eps) {
    allowNextKernel();
    awaitPreviousKernel();
    const int index = (blockIdx.x * HEAD_THREADS + threadIdx.x) / lanes, lane = threadIdx.x % lanes;
    const int row = index / heads, head = index % heads;
    const bool present = row < rows;
    char* values = rowOf(x, stride, row, wide) + static_cast<long long>(head) * size * (wide ? 4 : 2);
    auto factorOf = [&](float squares) {  // all lanes of the warp
        for (int distance = lanes / 2; distance; distance /= 2) squares += __shfl_xor_sync(~0u, squares, distance);
        return 1 / sqrtf(squares / size + eps);
    };
    float squares = 0;
    if (size % VECTOR == 0 && size <= HEAD_VECTORS * WARP * VECTOR) {
        const int end = present ? size / VECTOR : 0;
        float v[HEAD_VECTORS][VECTOR];
#pragma unroll
        for (int k = 0; k < HEAD_VECTORS; k++) {
            if (k * lanes + lane >= end) continue;
            loadVector(values, k * lanes + lane, wide, v[k]);
#pragma unroll
            for (int i = 0; i < VECTOR; i++) squares += v[k][i] * v[k][i];
        }
        const float factor = factorOf(squares);
#pragma unroll
        for (int k = 0; k < HEAD_VECTORS; k++) {
            if (k * lanes + lane >= end) continue;
            float w[VECTOR];
            loadVector(reinterpret_cast<const char*>(weight), k * lanes + lane, true, w);
#pragma unroll
            for (int i = 0; i < VECTOR; i++) v[k][i] = v[k][i] * factor * w[i];
            storeVector(values, k * lanes + lane, wide, v[k]);
        }
        return;
    }
    const int end = present ? size : 0;
    float* floats = reinterpret_cast<float*>(values);
    __nv_bfloat16* halves = reinterpret_cast<__nv_bfloat16*>(values);
    for (int i = lane; i < end; i += lanes) {
        const float v = wide ? floats[i] : __bfloat162float(halves[i]);
        squares += v * v;
    }
    const float factor = factorOf(squares);
    for (int i = lane; i < end; i += lanes) {
        if (wide) {
            floats[i] = floats[i] * factor * weight[i];
        } else {
            halves[i] = __float2bfloat16_rn(__bfloat162float(halves[i]) * factor * weight[i]);
        }
    }
}
