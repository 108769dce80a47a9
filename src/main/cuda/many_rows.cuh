// What the matrix products for many rows share: which tile of the output a block computes next, and how sums leave
// the registers.

#pragma once

#include <cuda_fp16.h>

#include "device.cuh"

// What a product writes. TERMS are those of a sum over a row's experts, in fp16 and divided by TERM_UNIT: 2^-12 of their
// value is lost at most (an eighth of what bf16 loses), 2^-21 below 2^-10, and they reach to 1,048,064 = 65,504 * 16. What
// lies beyond, infinities too, becomes that; a NaN stays one.
enum class Result { BF16, FLOAT32, TERMS };

constexpr float TERM_UNIT = 16;

__device__ __forceinline__ unsigned packTerms(float first, float second) {
    constexpr float MOST = 65504;
    __half2 pair = __floats2half2_rn(first * (1 / TERM_UNIT), second * (1 / TERM_UNIT));
    pair = __hmin2_nan(__hmax2_nan(pair, __float2half2_rn(-MOST)), __float2half2_rn(MOST));
    return reinterpret_cast<unsigned&>(pair);
}

__device__ __forceinline__ float2 unpackTerms(unsigned pair) {
    const float2 values = __half22float2(reinterpret_cast<__half2&>(pair));
    return float2{values.x * TERM_UNIT, values.y * TERM_UNIT};
}

// Rows `first` to `first + rows` (in the order of experts), all of one expert, by columns from `column` on.
struct Tile {
    int expert, first, rows, column;
};

// All tiles of a grouped product in an order that the L2 likes: expert by expert; within one, BAND tiles of rows go
// through all of the weights before the next rows do. Tile t is block t % gridDim.x's.
template <int ROWS, int COLUMNS>
class Tiles {
    static constexpr int BAND = 16;

  public:
    // starts: [experts + 1] first row of each expert, or null for one expert with all `rows`.
    // rowTiles: [experts + 1] in shared memory; filled by the block's first warp: a barrier must follow
    __device__ __forceinline__ Tiles(const int* starts, int rows, int experts, int columns, int* rowTiles)
        : starts(starts), rows(rows), rowTiles(rowTiles), columnTiles((columns + COLUMNS - 1) / COLUMNS) {
        if (threadIdx.x < WARP) count(experts);
    }

    // Must be called with ascending t.
    __device__ __forceinline__ bool at(int t, int experts, Tile& tile) {
        if (t >= rowTiles[experts] * columnTiles) return false;
        while (t >= rowTiles[expert + 1] * columnTiles) expert++;
        const int inExpert = t - rowTiles[expert] * columnTiles;
        const int band = inExpert / (BAND * columnTiles), inBand = inExpert - band * BAND * columnTiles;
        const int bandRows = min(BAND, rowTiles[expert + 1] - rowTiles[expert] - band * BAND);
        const int column = inBand / bandRows;
        const int from = start(expert), row = (band * BAND + inBand - column * bandRows) * ROWS;
        tile = Tile{expert, from + row, min(ROWS, start(expert + 1) - from - row), column * COLUMNS};
        return true;
    }

  private:
    __device__ __forceinline__ int start(int e) const { return starts != nullptr ? starts[e] : e * rows; }

    __device__ __forceinline__ void count(int experts) {
        const int lane = threadIdx.x;
        int before = 0;
        if (lane == 0) rowTiles[0] = 0;
        for (int e = 0; e < experts; e += WARP) {
            int tiles = e + lane < experts ? (start(e + lane + 1) - start(e + lane) + ROWS - 1) / ROWS : 0;
#pragma unroll
            for (int i = 1; i < WARP; i *= 2) {
                const int more = __shfl_up_sync(~0u, tiles, i);
                if (lane >= i) tiles += more;
            }
            if (e + lane < experts) rowTiles[e + lane + 1] = before + tiles;
            before += __shfl_sync(~0u, tiles, WARP - 1);
        }
    }

    const int* starts;
    const int rows;
    int* rowTiles;
    const int columnTiles;
    int expert = 0;
};

// Lanes 4 g + c hold columns 2 c, 2 c + 1 of four groups of 8 columns; afterwards all 8 columns of group c.
__device__ __forceinline__ uint4 gatherColumns(const unsigned (&p)[4]) {
    const bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
    const unsigned s0 = __shfl_xor_sync(~0u, odd ? p[0] : p[1], 1);
    const unsigned s1 = __shfl_xor_sync(~0u, odd ? p[2] : p[3], 1);
    const unsigned a0 = odd ? s0 : p[0], a1 = odd ? p[1] : s0;  // group 0 (odd: 1), columns of lanes 0, 1 or 2, 3
    const unsigned b0 = odd ? s1 : p[2], b1 = odd ? p[3] : s1;  // group 2 (odd: 3)
    const unsigned t0 = __shfl_xor_sync(~0u, upper ? a0 : b0, 2);
    const unsigned t1 = __shfl_xor_sync(~0u, upper ? a1 : b1, 2);
    return upper ? uint4{t0, t1, b0, b1} : uint4{a0, a1, t0, t1};
}

// Writes two rows of sums: d[4 j + 2 h], d[4 j + 2 h + 1] are columns 8 j + 2 c and the next of the row at
// offsets[h] of y (elements; negative: nowhere). n: columns of y, a multiple of 8.
// bias: [n] or null. All lanes of a warp must call it.
template <Result RESULT, int SUMS>
__device__ __forceinline__ void storeRows(const float (&d)[SUMS], const float* bias, int column, int n, void* y,
                                          const long long (&offsets)[2]) {
    const int c = threadIdx.x % 4;
#pragma unroll
    for (int b = 0; b < SUMS / 16; b++) {
        const int first = column + 32 * b;
        float2 biases[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int at = first + 8 * j + 2 * c;
            biases[j] = bias != nullptr && at < n ? __ldg(reinterpret_cast<const float2*>(bias + at)) : float2{};
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float2 values[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float* sums = d + 16 * b + 4 * j + 2 * h;
                values[j] = float2{sums[0] + biases[j].x, sums[1] + biases[j].y};
            }
            if constexpr (RESULT == Result::FLOAT32) {
                float* row = static_cast<float*>(y) + offsets[h];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const int at = first + 8 * j + 2 * c;
                    if (offsets[h] >= 0 && at < n) *reinterpret_cast<float2*>(row + at) = values[j];
                }
            } else {
                unsigned pairs[4];
#pragma unroll
                for (int j = 0; j < 4; j++)
                    pairs[j] = RESULT == Result::TERMS ? packTerms(values[j].x, values[j].y)
                                                       : packBf16(values[j].x, values[j].y);
                const uint4 columns = gatherColumns(pairs);
                const int at = first + 8 * c;
                if (offsets[h] >= 0 && at < n)
                    *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(y) + offsets[h] + at) = columns;
            }
        }
    }
}
