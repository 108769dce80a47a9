// Matrix products for many rows on Hopper: y = x W_e^T + b_e, each row by its expert's weights (or all by one).
//
// Shapes and layout
//   x [rows, k] bf16, W [experts][n][k] bf16 row-major, b [experts][n] float32 or null, y [., n] bf16 (_terms: fp16 as
//   many_rows.cuh says). k and n are multiples of 8; rows of x and y begin at multiples of 16 bytes; y's columns up to n are
//   written. Rows are worked on in the order of experts, in which x lies: place p of it, starts[e] <= p < starts[e + 1], is
//   row sorted[p] of y. starts null: one expert with `rows` rows. sorted null: place p is row p.
//
// How
//   One block per multiprocessor goes through tiles of 128 rows by COLUMNS features. A thread brings both operands to a ring
//   of STAGES x 64 of k in shared memory by tensor maps, swizzled by 128 bytes; the weights' third dimension keeps an
//   expert's last tile from reading the next one's. Two warp groups multiply 64 rows each and store them.
//   A sum's order is that of k, whatever else is in the launch.
//
// Bytes: W of the experts that have rows once, y once, x once per 16 tiles of columns from the L2 or memory. With 128 rows
// per expert and more, arithmetic is the limit: 2 rows n k operations.
//
// Launch: up to as many blocks as multiprocessors, 384 threads, 1 KiB + the ring + 4 (experts + 1) bytes of shared memory;
// boxes of x 64 rows, of W COLUMNS.

#include "hopper.cuh"
#include "many_rows.cuh"

namespace {

struct Product {
    const int* starts;
    const int* sorted;
    const float* bias;
    void* y;
    int yStride;
    int rows, n, k, experts;
};

constexpr int CONSUMERS = 2;  // warp groups that multiply
constexpr int THREADS = (CONSUMERS + 1) * WARP_GROUP;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int GROUP_ROWS = 64;  // of a tile, multiplied by one warp group
constexpr int ROWS = CONSUMERS * GROUP_ROWS;
constexpr int DEPTH = 64;       // of k per stage: 128 bytes
constexpr int ROW_BYTES = DEPTH * 2;
constexpr int GROUP_BYTES = GROUP_ROWS * ROW_BYTES;
constexpr int X_BYTES = CONSUMERS * GROUP_BYTES;

template <int STAGES>
struct Ring {
    int stage = 0;
    unsigned parity = 0;

    __device__ __forceinline__ void advance() {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
};

template <int COLUMNS, int STAGES, Result RESULT>
class Block {
    static constexpr int STAGE_BYTES = X_BYTES + COLUMNS * ROW_BYTES;
    using Order = Tiles<ROWS, COLUMNS>;

  public:
    static __device__ __forceinline__ void run(const TensorMap* mapX, const TensorMap* mapW, const Product& p) {
        extern __shared__ unsigned char memory[];
        __shared__ uint64_t full[STAGES], empty[STAGES];
        unsigned char* stages = memory + (1024 - (sharedAddress(memory) & 1023) & 1023);
        int* rowTiles = reinterpret_cast<int*>(stages + STAGES * STAGE_BYTES);

        if (threadIdx.x == 0) {
            for (int s = 0; s < STAGES; s++) {
                initialiseBarrier(full + s, 1);
                initialiseBarrier(empty + s, CONSUMERS * WARP_GROUP / WARP);
            }
            publishBarriers();
        }
        awaitPreviousKernel();
        allowNextKernel();
        Order order(p.starts, p.rows, p.experts, p.n, rowTiles);
        __syncthreads();

        if (threadIdx.x < WARP_GROUP) {
            giveUpRegisters<40>();
            if (threadIdx.x == 0) fetch(mapX, mapW, p, order, stages, full, empty);
        } else {
            takeRegisters<232>();
            multiplyTiles(p, order, stages, full, empty);
        }
    }

  private:
    static __device__ __forceinline__ void fetch(const TensorMap* mapX, const TensorMap* mapW, const Product& p,
                                                 Order& order, unsigned char* stages, uint64_t* full,
                                                 uint64_t* empty) {
        prefetchTensorMap(mapX);
        prefetchTensorMap(mapW);
        Ring<STAGES> ring;
        Tile tile;
        for (int t = blockIdx.x; order.at(t, p.experts, tile); t += gridDim.x) {
            const int groups = (tile.rows + GROUP_ROWS - 1) / GROUP_ROWS;  // the others multiply nothing
            for (int k = 0; k < p.k; k += DEPTH, ring.advance()) {
                awaitBarrier(empty + ring.stage, ring.parity ^ 1);
                uint64_t* barrier = full + ring.stage;
                unsigned char* stage = stages + ring.stage * STAGE_BYTES;
                arriveExpecting(barrier, COLUMNS * ROW_BYTES + groups * GROUP_BYTES);
                for (int g = 0; g < groups; g++)
                    copyTile(stage + g * GROUP_BYTES, mapX, k, tile.first + g * GROUP_ROWS, barrier);
                copyTile(stage + X_BYTES, mapW, k, tile.column, tile.expert, barrier);
            }
        }
    }

    static __device__ __forceinline__ void multiplyTiles(const Product& p, Order& order, const unsigned char* stages,
                                                         uint64_t* full, uint64_t* empty) {
        const int group = threadIdx.x / WARP_GROUP - 1, lane = threadIdx.x % WARP;
        const int row = group * GROUP_ROWS + threadIdx.x % WARP_GROUP / WARP * 16 + lane / 4;  // and 8 further
        Ring<STAGES> ring;
        Tile tile;
        int t = blockIdx.x;
        bool more = order.at(t, p.experts, tile);
        while (more) {
            if (tile.rows <= group * GROUP_ROWS) {  // nothing but padding
                for (int k = 0; k < p.k; k += DEPTH, ring.advance()) {
                    awaitBarrier(full + ring.stage, ring.parity);
                    if (lane == 0) arrive(empty + ring.stage);
                }
                more = order.at(t += gridDim.x, p.experts, tile);
                continue;
            }
            float d[COLUMNS / 2];
            Tile next;
            int targets[2];
            multiplyTile(p.k, ring, stages + group * GROUP_BYTES, full, empty, d, [&] {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int place = tile.first + row + 8 * h;
                    targets[h] = -1;
                    if (row + 8 * h < tile.rows) targets[h] = p.sorted != nullptr ? p.sorted[place] : place;
                }
                more = order.at(t += gridDim.x, p.experts, next);
            });

            long long offsets[2];
#pragma unroll
            for (int h = 0; h < 2; h++)
                offsets[h] = targets[h] < 0 ? -1 : static_cast<long long>(targets[h]) * p.yStride;
            const float* bias = p.bias != nullptr ? p.bias + static_cast<long long>(tile.expert) * p.n : nullptr;
            storeRows<RESULT>(d, bias, tile.column, p.n, p.y, offsets);
            tile = next;
        }
    }

    // meanwhile: what the warp group does while its first products are under way.
    template <typename Meanwhile>
    static __device__ __forceinline__ void multiplyTile(int depth, Ring<STAGES>& ring, const unsigned char* x,
                                                        uint64_t* full, uint64_t* empty, float (&d)[COLUMNS / 2],
                                                        Meanwhile meanwhile) {
        const int lane = threadIdx.x % WARP;
        const unsigned char* weights = x + X_BYTES - (threadIdx.x / WARP_GROUP - 1) * GROUP_BYTES;
        int previous = 0;
        for (int k = 0; k < depth; k += DEPTH, ring.advance()) {
            awaitBarrier(full + ring.stage, ring.parity);
            const uint64_t xRows = describeRows(x + ring.stage * STAGE_BYTES);
            const uint64_t wRows = describeRows(weights + ring.stage * STAGE_BYTES);
            beginProducts();
#pragma unroll
            for (int i = 0; i < DEPTH / 16; i++) multiply(d, xRows + 2 * i, wRows + 2 * i, k + i);  // 32 bytes of k each
            commitProducts();
            if (k == 0) {
                meanwhile();
            } else {
                awaitProducts<1>();  // the ones before these
                if (lane == 0) arrive(empty + previous);
            }
            previous = ring.stage;
        }
        awaitProducts<0>();
        if (lane == 0) arrive(empty + previous);
    }
};

#endif

}  // namespace

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MULTIPLY(COLUMNS, STAGES, RESULT) \
    Block<COLUMNS, STAGES, RESULT>::run(&mapX, &mapW, Product{starts, sorted, bias, y, yStride, rows, n, k, experts})
#else
#define MULTIPLY(COLUMNS, STAGES, RESULT) __trap()  // see matrix_many_portable.cu
#endif

#define KERNEL(NAME, COLUMNS, STAGES, RESULT)                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS, 1)                                                      \
        NAME##_128_##COLUMNS(const __grid_constant__ TensorMap mapX, const __grid_constant__ TensorMap mapW,      \
                             const int* starts, const int* sorted, const float* bias, void* y, int yStride,       \
                             int rows, int n, int k, int experts) {                                               \
        MULTIPLY(COLUMNS, STAGES, RESULT);                                                                        \
    }

#define KERNELS(COLUMNS, STAGES)                       \
    KERNEL(matrix_many, COLUMNS, STAGES, Result::BF16) \
    KERNEL(matrix_many_terms, COLUMNS, STAGES, Result::TERMS)

KERNELS(128, 6)
KERNELS(256, 4)
