// Brings rows into the order of their experts, for matrix_many.cu, whose copy engine takes boxes of neighbouring rows.
//
// Shapes    x [*, columns] bf16 with a stride, out [places, columns] bf16 without gaps; columns a multiple of 8; sorted as
//           experts.cuh says.
// Bytes     each value is read once, mostly from the L2, and written once.

#include "device.cuh"

// out[p] = x[sorted[p] / choices]: rows in the order of experts. bf16, columns a multiple of 8, rows of out without gaps; one
// block per place. places: device address of how many there are; what `sorted` holds beyond, for padded rows, is stale.
extern "C" __global__ void gather_sorted(const __nv_bfloat16* x, long long xStride, const int* sorted, const int* places,
                                         int choices, int columns, __nv_bfloat16* out) {
    awaitPreviousKernel();
    allowNextKernel();
    const long long place = blockIdx.x;
    if (place >= *places) return;
    const uint4* source = reinterpret_cast<const uint4*>(x + sorted[place] / choices * xStride);
    uint4* target = reinterpret_cast<uint4*>(out + place * columns);
    for (int i = threadIdx.x; i < columns / 8; i += blockDim.x) target[i] = source[i];
}
