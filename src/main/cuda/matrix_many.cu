// Matrix products for many rows on Hopper: y = x W_e^T + b_e, each row by its expert's weights (or all by one).
//
// Shapes and layout
//   x [rows, k] bf16, W [experts][n][k] bf16 row-major, b [experts][n] float32 or null, y [., n] bf16 (_wide: float32; _terms: fp16
//   as many_rows.cuh says).
//   k and n are multiples of 8; rows of x and y begin at multiples of 16 bytes; y's columns up to n are written.
//   Rows are worked on in the order of experts: place p of it, starts[e] <= p < starts[e + 1], is row sorted[p] of y.
//   starts null: one expert with `rows` rows. sorted null: place p is row p.
//   matrix_many*: x lies in this order (mapX: its tensor map); experts_many: place p's x is row sorted[p] / choices.
//
// How
//   One block per multiprocessor goes through tiles of 128 rows by COLUMNS features. A warp group brings both operands
//   to a ring of STAGES x 64 of k in shared memory, swizzled by 128 bytes: W by tensor maps, whose third
//   dimension keeps an expert's last tile from reading the next one's weights; x by tensor maps too, or, where its
//   rows are scattered, with 16-byte copies. Two more warp groups multiply 64 rows each.
//   A sum's order is that of k, whatever else is in the launch.
//
// Bytes: W of the experts that have rows once, y once, x once per 16 tiles of columns from the L2 or memory. With 128 rows
// per expert and more, arithmetic is the limit: 2 rows n k operations.
//
// Launch: up to as many blocks as multiprocessors, 384 threads, SHARED_BYTES + 4 (experts + 1) bytes of shared memory.

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

constexpr int consumers(int rows) { return rows == 192 ? 3 : 2; }  // warp groups that multiply

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int UNIT_ROWS = 64;   // of a tile: what an instruction multiplies
constexpr int DEPTH = 64;       // of k per stage: 128 bytes
constexpr int ROW_BYTES = DEPTH * 2;
constexpr int UNIT_BYTES = UNIT_ROWS * ROW_BYTES;

template <int STAGES>
struct Ring {
    int stage = 0;
    unsigned parity = 0;

    __device__ __forceinline__ void advance() {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
};

template <int ROWS, int COLUMNS, int STAGES, bool SCATTERED, Result RESULT>
class Block {
    static constexpr int CONSUMERS = consumers(ROWS);
    static constexpr int UNITS = ROWS / UNIT_ROWS / CONSUMERS;  // of a warp group: group g has units g, g + CONSUMERS ...
    static constexpr int X_BYTES = ROWS * ROW_BYTES;
    static constexpr int STAGE_BYTES = X_BYTES + COLUMNS * ROW_BYTES;
    using Order = Tiles<ROWS, COLUMNS>;

  public:
    static __device__ __forceinline__ void run(const TensorMap* mapX, int choices,
                                               const TensorMap* mapW, const Product& p) {
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
            giveUpRegisters<CONSUMERS == 3 ? 32 : 40>();
            if constexpr (SCATTERED) {
                if (threadIdx.x < WARP) fetchScattered(mapX, choices, mapW, p, order, stages, full, empty);
            } else if (threadIdx.x == 0)
                fetch(mapX, mapW, p, order, stages, full, empty);
        } else {
            takeRegisters<CONSUMERS == 3 ? 160 : 232>();
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
            const int units = (tile.rows + UNIT_ROWS - 1) / UNIT_ROWS;
            for (int k = 0; k < p.k; k += DEPTH, ring.advance()) {
                awaitBarrier(empty + ring.stage, ring.parity ^ 1);
                uint64_t* barrier = full + ring.stage;
                unsigned char* stage = stages + ring.stage * STAGE_BYTES;
                arriveExpecting(barrier, COLUMNS * ROW_BYTES + units * UNIT_BYTES);
                for (int u = 0; u < units; u++)
                    copyTile(stage + u * UNIT_BYTES, mapX, k, tile.first + u * UNIT_ROWS, barrier);
                copyTile(stage + X_BYTES, mapW, k, tile.column, tile.expert, barrier);
            }
        }
    }

    // By one warp, a box per row.
    static __device__ __forceinline__ void fetchScattered(const TensorMap* mapX, int choices, const TensorMap* mapW,
                                                          const Product& p, Order& order, unsigned char* stages,
                                                          uint64_t* full, uint64_t* empty) {
        constexpr int PER_LANE = ROWS / WARP;
        const int lane = threadIdx.x;
        Ring<STAGES> ring;
        Tile tile;
        for (int t = blockIdx.x; order.at(t, p.experts, tile); t += gridDim.x) {
            const int units = (tile.rows + UNIT_ROWS - 1) / UNIT_ROWS;
            int rows[PER_LANE];
#pragma unroll
            for (int i = 0; i < PER_LANE; i++) {  // rows beyond the tile's: any will do
                const int place = tile.first + min(lane + i * WARP, tile.rows - 1);
                rows[i] = p.sorted != nullptr ? p.sorted[place] / choices : place;
            }
            for (int k = 0; k < p.k; k += DEPTH, ring.advance()) {
                awaitBarrier(empty + ring.stage, ring.parity ^ 1);
                uint64_t* barrier = full + ring.stage;
                unsigned char* stage = stages + ring.stage * STAGE_BYTES;
                if (lane == 0) {
                    arriveExpecting(barrier, COLUMNS * ROW_BYTES + units * UNIT_BYTES);
                    copyTile(stage + X_BYTES, mapW, k, tile.column, tile.expert, barrier);
                }
                __syncwarp();
#pragma unroll
                for (int i = 0; i < PER_LANE; i++)
                    if (i * WARP < units * UNIT_ROWS)
                        copyTile(stage + (lane + i * WARP) * ROW_BYTES, mapX, k, rows[i], barrier);
            }
        }
    }

    static __device__ __forceinline__ void multiplyTiles(const Product& p, Order& order, const unsigned char* stages,
                                                         uint64_t* full, uint64_t* empty) {
        const int group = threadIdx.x / WARP_GROUP - 1, lane = threadIdx.x % WARP;
        const int row = group * UNIT_ROWS + threadIdx.x % WARP_GROUP / WARP * 16 + lane / 4;  // of a tile
        Ring<STAGES> ring;
        Tile tile;
        int t = blockIdx.x;
        bool more = order.at(t, p.experts, tile);
        while (more) {
            // Units of this group that have rows.
            const int units = ((tile.rows + UNIT_ROWS - 1) / UNIT_ROWS - group + CONSUMERS - 1) / CONSUMERS;
            if (units <= 0) {
                for (int k = 0; k < p.k; k += DEPTH, ring.advance()) {
                    awaitBarrier(full + ring.stage, ring.parity);
                    if (lane == 0) arrive(empty + ring.stage);
                }
                more = order.at(t += gridDim.x, p.experts, tile);
                continue;
            }
            float d[UNITS][COLUMNS / 2];
            Tile next;
            int targets[UNITS][2];
            auto meanwhile = [&] {
#pragma unroll
                for (int u = 0; u < UNITS; u++) {
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        const int at = row + u * CONSUMERS * UNIT_ROWS + 8 * h, place = tile.first + at;
                        targets[u][h] = -1;
                        if (at < tile.rows) targets[u][h] = p.sorted != nullptr ? p.sorted[place] : place;
                    }
                }
                more = order.at(t += gridDim.x, p.experts, next);
            };
            const unsigned char* x = stages + group * UNIT_BYTES;
            if (UNITS == 1 || units == UNITS)
                multiplyTile<UNITS>(p.k, ring, x, full, empty, d, meanwhile);
            else
                multiplyTile<1>(p.k, ring, x, full, empty, d, meanwhile);

            const float* bias = p.bias != nullptr ? p.bias + static_cast<long long>(tile.expert) * p.n : nullptr;
#pragma unroll
            for (int u = 0; u < UNITS; u++) {
                if (u > 0 && u >= units) break;
                long long offsets[2];
#pragma unroll
                for (int h = 0; h < 2; h++)
                    offsets[h] = targets[u][h] < 0 ? -1 : static_cast<long long>(targets[u][h]) * p.yStride;
                storeRows<RESULT>(d[u], bias, tile.column, p.n, p.y, offsets);
            }
            tile = next;
        }
    }

    // meanwhile: what the warp group does while its first products are under way.
    template <int ACTIVE, typename Meanwhile>
    static __device__ __forceinline__ void multiplyTile(int depth, Ring<STAGES>& ring, const unsigned char* x,
                                                        uint64_t* full, uint64_t* empty, float (&d)[UNITS][COLUMNS / 2],
                                                        Meanwhile meanwhile) {
        const int lane = threadIdx.x % WARP;
        const unsigned char* weights = x + X_BYTES - (threadIdx.x / WARP_GROUP - 1) * UNIT_BYTES;
        int previous = 0;
        for (int k = 0; k < depth; k += DEPTH, ring.advance()) {
            awaitBarrier(full + ring.stage, ring.parity);
            const uint64_t xRows = describeRows(x + ring.stage * STAGE_BYTES);
            const uint64_t wRows = describeRows(weights + ring.stage * STAGE_BYTES);
            beginProducts();
#pragma unroll
            for (int u = 0; u < ACTIVE; u++)
                multiplyUnit(d[u], xRows + u * (CONSUMERS * UNIT_BYTES >> 4), wRows, k);
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

    static __device__ __forceinline__ void multiplyUnit(float (&d)[COLUMNS / 2], uint64_t xRows, uint64_t wRows, int k) {
#pragma unroll
        for (int i = 0; i < DEPTH / 16; i++) {  // 32 bytes of k each
            if constexpr (CONSUMERS == 3 && COLUMNS == 256) {  // the kernel's initial registers limit an instruction's
                auto& lower = reinterpret_cast<float(&)[COLUMNS / 4]>(d[0]);
                auto& upper = reinterpret_cast<float(&)[COLUMNS / 4]>(d[COLUMNS / 4]);
                multiply(lower, xRows + 2 * i, wRows + 2 * i, k + i);
                multiply(upper, xRows + 2 * i, wRows + 2 * i + (COLUMNS / 2 * ROW_BYTES >> 4), k + i);
            } else {
                multiply(d, xRows + 2 * i, wRows + 2 * i, k + i);
            }
        }
    }
};

#endif

}  // namespace

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MULTIPLY(ROWS, COLUMNS, STAGES, SCATTERED, RESULT, CHOICES)                   \
    Block<ROWS, COLUMNS, STAGES, SCATTERED, RESULT>::run(&mapX, CHOICES, &mapW, \
                                                         Product{starts, sorted, bias, y, yStride, rows, n, k, experts})
#else
#define MULTIPLY(ROWS, COLUMNS, STAGES, SCATTERED, RESULT, CHOICES) __trap()  // see matrix_many_portable.cu
#endif

#define PRODUCT_PARAMETERS                                                                                         \
    const __grid_constant__ TensorMap mapW, const int *starts, const int *sorted, const float *bias, void *y, int yStride, \
        int rows, int n, int k, int experts

#define KERNEL(NAME, ROWS, COLUMNS, STAGES, RESULT)                                                                     \
    extern "C" __global__ void __launch_bounds__((consumers(ROWS) + 1) * WARP_GROUP, 1)                                      \
        NAME##_##ROWS##_##COLUMNS(const __grid_constant__ TensorMap mapX, PRODUCT_PARAMETERS) {                         \
        MULTIPLY(ROWS, COLUMNS, STAGES, false, RESULT, 0);                                         \
    }

#define KERNELS(ROWS, COLUMNS, STAGES)                                  \
    KERNEL(matrix_many, ROWS, COLUMNS, STAGES, Result::BF16)            \
    KERNEL(matrix_many_wide, ROWS, COLUMNS, STAGES, Result::FLOAT32)    \
    KERNEL(matrix_many_terms, ROWS, COLUMNS, STAGES, Result::TERMS)

KERNELS(128, 128, 6)
KERNELS(128, 256, 4)
KERNELS(192, 256, 4)
KERNELS(256, 192, 4)

#define SCATTERED_KERNEL(NAME, ROWS, COLUMNS, STAGES, RESULT)                                                           \
    extern "C" __global__ void __launch_bounds__((consumers(ROWS) + 1) * WARP_GROUP, 1)                                 \
        NAME##_##ROWS##_##COLUMNS(const __grid_constant__ TensorMap mapX, int choices, PRODUCT_PARAMETERS) {            \
        MULTIPLY(ROWS, COLUMNS, STAGES, true, RESULT, choices);                                                         \
    }

#define SCATTERED_KERNELS(ROWS, COLUMNS, STAGES)                                  \
    SCATTERED_KERNEL(experts_many, ROWS, COLUMNS, STAGES, Result::BF16)            \
    SCATTERED_KERNEL(experts_many_terms, ROWS, COLUMNS, STAGES, Result::TERMS)
SCATTERED_KERNELS(128, 256, 4)
SCATTERED_KERNELS(192, 256, 4)
SCATTERED_KERNELS(256, 192, 4)
