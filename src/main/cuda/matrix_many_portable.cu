// Matrix products for many rows on devices before Hopper: see matrix_many.cu for shapes, layout and what the parameters
// mean. Correct everywhere; for speed there is the other one.
//
// A block of 256 threads computes tiles of 128 rows by 128 features in steps of 32 of k: two stages in shared memory,
// filled with 16-byte copies, rows 80 bytes apart so that reads of fragments meet no bank twice. Warps are 2 (rows) by 4
// (features).
//
// Launch: any number of blocks, 256 threads, 4 (experts + 1) bytes of shared memory.

#include "many_rows.cuh"

namespace {

constexpr int ROWS = 128;
constexpr int COLUMNS = 128;
constexpr int DEPTH = 32;
constexpr int STRIDE = DEPTH + 8;  // elements
constexpr int THREADS = 256;
constexpr int WARP_ROWS = 64;
constexpr int WARP_COLUMNS = 32;

struct Stage {
    __nv_bfloat16 x[ROWS * STRIDE];
    __nv_bfloat16 weights[COLUMNS * STRIDE];
};

__device__ __forceinline__ unsigned pairAt(const __nv_bfloat16* matrix, int row, int k) {
    return *reinterpret_cast<const unsigned*>(matrix + row * STRIDE + k);
}

__device__ __forceinline__ void multiplyStage(const Stage& stage, int row, int column, float (&d)[4][16]) {
    const int g = threadIdx.x % WARP / 4, c = threadIdx.x % 4;
#pragma unroll
    for (int k = 2 * c; k < DEPTH; k += 16) {
        uint4 x[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int r = row + 16 * i + g;
            x[i] = uint4{pairAt(stage.x, r, k), pairAt(stage.x, r + 8, k), pairAt(stage.x, r, k + 8),
                         pairAt(stage.x, r + 8, k + 8)};
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const unsigned lo = pairAt(stage.weights, column + 8 * j + g, k);
            const unsigned hi = pairAt(stage.weights, column + 8 * j + g, k + 8);
#pragma unroll
            for (int i = 0; i < 4; i++) mma(reinterpret_cast<float(&)[4]>(d[i][4 * j]), x[i], lo, hi);
        }
    }
}

}  // namespace

// wide: y is float32
extern "C" __global__ void __launch_bounds__(THREADS)
    matrix_many_portable(const __nv_bfloat16* x, int xStride, int choices, const __nv_bfloat16* w, const int* starts,
                         const int* sorted, const float* bias, void* y, int yStride, int rows, int n, int k, int experts,
                         int wide) {
    extern __shared__ int rowTiles[];
    __shared__ Stage stages[2];
    constexpr int CHUNKS = DEPTH / 8, AT_ONCE = THREADS / CHUNKS, PER_THREAD = ROWS / AT_ONCE;
    static_assert(ROWS == COLUMNS);

    awaitPreviousKernel();
    allowNextKernel();
    Tiles<ROWS, COLUMNS> order(starts, rows, experts, n, rowTiles);
    __syncthreads();

    const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS * 8;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int warpRow = warp % 2 * WARP_ROWS, warpColumn = warp / 2 * WARP_COLUMNS;
    Tile tile;
    for (int t = blockIdx.x; order.at(t, experts, tile); t += gridDim.x) {
        const __nv_bfloat16 *xRows[PER_THREAD], *wRows[PER_THREAD];
        bool xPresent[PER_THREAD], wPresent[PER_THREAD];
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            const int r = row + i * AT_ONCE, place = tile.first + min(r, tile.rows - 1);
            const int from = sorted != nullptr ? sorted[place] / choices : place;
            const int feature = min(tile.column + r, n - 1);
            xRows[i] = x + static_cast<long long>(from) * xStride + chunk;
            wRows[i] = w + (static_cast<long long>(tile.expert) * n + feature) * k + chunk;
            xPresent[i] = r < tile.rows;
            wPresent[i] = tile.column + r < n;
        }
        const auto fetch = [&](int from) {
            Stage& stage = stages[from / DEPTH % 2];
            const bool inside = from + chunk < k;
            const int at = inside ? from : 0;
#pragma unroll
            for (int i = 0; i < PER_THREAD; i++) {
                const int target = (row + i * AT_ONCE) * STRIDE + chunk;
                copyAsync(stage.x + target, inside ? xRows[i] + at : x, inside && xPresent[i]);
                copyAsync(stage.weights + target, inside ? wRows[i] + at : w, inside && wPresent[i]);
            }
            commitCopies();
        };

        float d[4][16] = {};
        fetch(0);
        for (int from = 0; from < k; from += DEPTH) {
            if (from + DEPTH < k) fetch(from + DEPTH);
            else commitCopies();
            awaitCopies<1>();
            __syncthreads();
            multiplyStage(stages[from / DEPTH % 2], warpRow, warpColumn, d);
            __syncthreads();
        }

        const float* expertBias = bias != nullptr ? bias + static_cast<long long>(tile.expert) * n : nullptr;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            long long offsets[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int r = warpRow + 16 * i + 8 * h + lane / 4, place = tile.first + r;
                offsets[h] = -1;
                if (r < tile.rows)
                    offsets[h] = static_cast<long long>(sorted != nullptr ? sorted[place] : place) * yStride;
            }
            if (wide)
                storeRows<Result::FLOAT32>(d[i], expertBias, tile.column + warpColumn, n, y, offsets);
            else
                storeRows<Result::BF16>(d[i], expertBias, tile.column + warpColumn, n, y, offsets);
        }
    }
}
