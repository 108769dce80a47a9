// Rows and routing by index, and their way to and from the host.
//
// Shapes    matrices [*, cols] of bf16 or float32, as a flag per matrix says, row strides in elements; rows [count] int32: an
//           index below 0 marks padding, which is skipped. Packed rows [count][cols] bf16 without gaps. Routing [*, topK]:
//           int32 experts (-1: none) and float32 weights.
// Layout    rows are aligned to 16 bytes and padded with zeros to a multiple of 8 columns, which the kernels keep.
// Limits    count * ceil(cols / 8) and count * topK < 2^31; indices are distinct where rows are added to.
// Bytes     every chosen row once in and once out. Packed rows and routing may lie in pinned host memory.
// Order     terms of a sum one after the other, then the sum is added to what is there.

#include "vector.cuh"

constexpr int ROW_THREADS = 256;

// A vector of packed rows, whose alignment depends on cols.
__device__ __forceinline__ void loadPacked(const unsigned short* row, int vector, int cols, float (&values)[VECTOR]) {
    if (cols % VECTOR == 0) {
        loadVector(reinterpret_cast<const char*>(row), vector, false, values);
        return;
    }
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        const int c = vector * VECTOR + i;
        values[i] = c < cols ? __uint_as_float(static_cast<unsigned>(row[c]) << 16) : 0;
    }
}

// out[i] = x[rows[i]]
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    gather(const void* x, long long xStride, int xWide, const int* rows, int count, int cols, void* out,
           long long outStride, int outWide) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(count, vectors(cols));
    if (!p.present) return;
    const int row = rows[p.row];
    if (row < 0) return;
    float v[VECTOR];
    loadVector(rowOf(x, xStride, row, xWide), p.piece, xWide, v);
    storeVector(rowOf(out, outStride, p.row, outWide), p.piece, outWide, v);
}

// y[rows[i]] += x[i * terms] + ... + x[i * terms + terms - 1]
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    scatter_add(const void* x, long long xStride, int xWide, int terms, const int* rows, int count, int cols, void* y,
                long long yStride, int yWide) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(count, vectors(cols));
    if (!p.present) return;
    const int row = rows[p.row];
    if (row < 0) return;
    char* target = rowOf(y, yStride, row, yWide);
    float old[VECTOR], sum[VECTOR];
    loadVector(target, p.piece, yWide, old);
    loadVector(rowOf(x, xStride, p.row * terms, xWide), p.piece, xWide, sum);
#pragma unroll 4
    for (int t = 1; t < terms; t++) {
        float v[VECTOR];
        loadVector(rowOf(x, xStride, p.row * terms + t, xWide), p.piece, xWide, v);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) sum[i] += v[i];
    }
#pragma unroll
    for (int i = 0; i < VECTOR; i++) old[i] += sum[i];
    storeVector(target, p.piece, yWide, old);
}

// out[i] = x[rows[i]], packed
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    pack_rows(const void* x, long long xStride, int xWide, const int* rows, int count, int cols, unsigned short* out) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(count, vectors(cols));
    if (!p.present) return;
    float v[VECTOR];
    loadVector(rowOf(x, xStride, rows[p.row], xWide), p.piece, xWide, v);
    unsigned short* target = out + static_cast<long long>(p.row) * cols;
    const uint4 packed = pack(v);
    if (cols % VECTOR == 0) {
        reinterpret_cast<uint4*>(target)[p.piece] = packed;
        return;
    }
    const unsigned pairs[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        const int c = p.piece * VECTOR + i;
        if (c < cols) target[c] = static_cast<unsigned short>(i % 2 ? pairs[i / 2] >> 16 : pairs[i / 2]);
    }
}

// out[i] = x[i], x packed
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    unpack_rows(const unsigned short* x, int count, int cols, void* out, long long outStride, int outWide) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(count, vectors(cols));
    if (!p.present) return;
    float v[VECTOR];
    loadPacked(x + static_cast<long long>(p.row) * cols, p.piece, cols, v);
    storeVector(rowOf(out, outStride, p.row, outWide), p.piece, outWide, v);
}

// y[rows[i]] += x[i], x packed
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    add_rows(const unsigned short* x, const int* rows, int count, int cols, void* y, long long yStride, int yWide) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(count, vectors(cols));
    if (!p.present) return;
    const int row = rows[p.row];
    if (row < 0) return;
    float v[VECTOR], old[VECTOR];
    loadPacked(x + static_cast<long long>(p.row) * cols, p.piece, cols, v);
    char* target = rowOf(y, yStride, row, yWide);
    loadVector(target, p.piece, yWide, old);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) old[i] += v[i];
    storeVector(target, p.piece, yWide, old);
}

// Choices and weights of rows[i], or of row i where rows is null. Padding gets no expert.
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    gather_routing(const int* experts, const float* weights, const int* rows, int count, int topK, int* outExperts,
                   float* outWeights) {
    allowNextKernel();
    awaitPreviousKernel();
    const Place p = place(count, topK);
    if (!p.present) return;
    const int row = rows == nullptr ? p.row : rows[p.row];
    const int from = row * topK + p.piece, to = p.row * topK + p.piece;
    outExperts[to] = row < 0 ? -1 : experts[from];
    outWeights[to] = row < 0 ? 0 : weights[from];
}

// One row in float32.
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    read_row(const void* x, long long stride, int wide, int row, int cols, float* out) {
    allowNextKernel();
    awaitPreviousKernel();
    const int vector = blockIdx.x * ROW_THREADS + threadIdx.x;
    if (vector >= vectors(cols)) return;
    float v[VECTOR];
    loadVector(rowOf(x, stride, row, wide), vector, wide, v);
    storeVector(reinterpret_cast<char*>(out), vector, true, v);
}
