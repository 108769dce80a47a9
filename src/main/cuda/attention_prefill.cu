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

    __device__ __forceinline__ static uint4* at(uint4* panel, int row, int piece) {
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
};

}  // namespace
