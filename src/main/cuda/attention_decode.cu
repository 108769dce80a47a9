// Causal attention of one row per sequence over paged keys and values: softmax(scale q K^T) V, with grouped heads, windows
// and sinks.
//
// Shapes    q, out [rows, heads * D] bf16 with strides; positions [rows] int32, -1: padding, nothing is done; tables [rows,
//           tableStride] int32; sinks [heads] float32 or null. Position i attends to i - window + 1 .. i (window 0: all up to i).
// Layout    cache of one layer as rope.cu says.
// Limits    D <= 256, scale > 0, a layer's cache below 64 GiB; tables and positions are written by no kernel of the step.
// How       A warp takes up to 16 heads, which share a kv head, and every WARPS-th tile of 16 keys: a ring of its own in
//           shared memory, filled by cp.async, so that no warp waits for another until the end. Up to `splits` blocks share a
//           row's keys, each at least `part` tiles; attention_combine merges them. Softmax is done on the way (Milakov and
//           Gimelshein, arXiv 1805.02867).
// Bytes     keys and values once, the rest is small.
// Order     keys ascending within a warp, then warps, then splits: none depends on other sequences.

#include "attention.cuh"

namespace {

constexpr int ROWS = 16;
constexpr int KEYS = 16;
constexpr int COMBINE_THREADS = 128;

template <int GROUPS>
struct Plan {
    static constexpr int WARPS = GROUPS <= 2 ? 4 : 2;
    static constexpr int THREADS = WARPS * WARP;
    static constexpr int STAGES = GROUPS == 1 ? 4 : 3;
    static constexpr int PIECES = Panel<GROUPS>::PIECES;
    static constexpr int HALF = KEYS * PIECES;             // keys, or values, of a tile
    static constexpr int RING = STAGES * 2 * HALF;         // of a warp
    static constexpr int MERGE_STRIDE = 64 * GROUPS + 8;   // + 8: no bank conflicts
};

// The tiles of a row's keys, and how they are cut into splits: both kernels must agree.
struct Tiles {
    int begin, count, splits;

    __device__ __forceinline__ Tiles(int position, int window, int part, int most) {
        begin = window == 0 ? 0 : max(0, position - window + 1) / KEYS;
        count = position / KEYS + 1 - begin;
        splits = min(most, (count + part - 1) / part);
    }

    __device__ __forceinline__ int from(int split) const {
        return begin + static_cast<int>(static_cast<long long>(count) * split / splits);
    }
};

}  // namespace
