// The choice of a token per row of logits.
//
//   argmax       rows whose choice is the largest logit, of equal ones the lowest token
//   sample_rows  everything else: logit bias and penalties, top-k, top-p, min-p, a draw, log probabilities
//
// Shapes    logits [rows, vocab] float32; the rest is described by the structures below, which the host writes and reads.
// Limits    vocab < 2^20.
// Bytes     every logit once: a cluster of blocks keeps its row in shared memory. A row that has no room there (an older
//           device, which has no clusters, or a vocabulary of more than 400000) is kept in a workspace.
// Order     tokens are ranked by logit, equal ones by lower token. Bias and penalties change the cluster's copy, so the logits
//           themselves stay as they are. Nothing is sorted: a position in the ranking is found by counting, or by adding
//           up probabilities, over ranges of the ranking that become smaller until they hold at most CANDIDATES tokens.
// Sums      A token's probability relative to the best one's is a whole number of 2^-44, computed in float32 to 2^-21 of
//           itself. Whole numbers add up to the same in every order, so a result depends on its row alone, neither on
//           scheduling nor on the number of blocks. A draw differs from one in exact arithmetic only if its target lies
//           within 2^-20 of all probabilities' sum of the border between two tokens.

#include <cfloat>

#include "device.cuh"

using u64 = unsigned long long;

constexpr int THREADS = 512;
constexpr int WARPS = THREADS / WARP;
constexpr int MAX_BLOCKS = 8;      // of a cluster
constexpr int RANGE_BITS = 3;
constexpr int RANGES = (1 << RANGE_BITS) + 1;  // that a pass over the row tells apart
constexpr int NEAR = 1024;         // logits of a block, near the best, that later passes look at instead of all
constexpr int CANDIDATES = 192;    // tokens whose ranks are found by comparing each with each, at most THREADS / 2
constexpr int MAX_TOP = 20;        // alternatives to report
constexpr int TOKEN_BITS = 20;
constexpr unsigned TOKEN_MASK = (1u << TOKEN_BITS) - 1;
constexpr float UNIT = 0x1p44f;    // of probability
constexpr float LOG2_E = 1.44269504f;

// 80 bytes.
struct SampleParams {
    int row;
    int topK;               // 0: off
    int logprobs;           // -1: none
    int firstAdjustment;    // adjustments of this row
    int endAdjustment;
    int greedy;
    float factor;           // 1 / temperature
    int unused;
    double topP;            // 1: off
    double minOffset;       // logits further below the best are cut off; minus infinity: off
    double uniform;         // in [0, 1)
    double repetition, presence, frequency;
};

// 16 bytes. Tokens of a row are distinct.
struct Adjustment {
    int token;
    int count;              // in the output; -1: in neither prompt nor output
    double bias;
};

// 176 bytes.
struct SampleOutcome {
    int token;
    int bad;                // a logit is not finite: most is it, and nothing else is valid
    float most;
    float logprob;
    int topTokens[MAX_TOP];
    float topLogprobs[MAX_TOP];
};

// Compares like the float; both zeros are equal.
__device__ __forceinline__ unsigned keyOf(float v) {
    const unsigned bits = __float_as_uint(v + 0.0f);
    return bits ^ (static_cast<int>(bits) < 0 ? 0xFFFFFFFFu : 0x80000000u);
}

__device__ __forceinline__ float logitOf(unsigned key) {
    return __uint_as_float(key ^ (key & 0x80000000u ? 0x80000000u : 0xFFFFFFFFu));
}

// A place in the ranking: the higher the better.
__device__ __forceinline__ u64 rankOf(unsigned key, unsigned token) {
    return static_cast<u64>(key) << TOKEN_BITS | (TOKEN_MASK - token);
}

__device__ __forceinline__ u64 firstRank(unsigned key) { return static_cast<u64>(key) << TOKEN_BITS; }

__device__ __forceinline__ unsigned tokenOf(u64 rank) { return TOKEN_MASK - static_cast<unsigned>(rank & TOKEN_MASK); }

__device__ __forceinline__ unsigned keyOfRank(u64 rank) { return static_cast<unsigned>(rank >> TOKEN_BITS); }

constexpr u64 NAN_RANK = ~0ull;

// Also where the address is one of another block of the cluster.
__device__ __forceinline__ void storeToBlock(u64* shared, unsigned block, u64 value) {
#if __CUDA_ARCH__ >= 900
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %0, %1; st.shared::cluster.u64 [remote], %2; }" ::"r"(
                     address),
                 "r"(block), "l"(value)
                 : "memory");
#else
    *shared = value;
#endif
}

__device__ __forceinline__ u64 loadFromBlock(const u64* shared, unsigned block) {
#if __CUDA_ARCH__ >= 900
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    u64 value;
    asm volatile("{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %1, %2; ld.shared::cluster.u64 %0, [remote]; }"
                 : "=l"(value)
                 : "r"(address), "r"(block)
                 : "memory");
    return value;
#else
    return *shared;
#endif
}

__device__ __forceinline__ u64 larger(u64 a, u64 b) { return a > b ? a : b; }

__device__ __forceinline__ u64 largestOfWarp(u64 v) {
#pragma unroll
    for (int distance = WARP / 2; distance; distance /= 2) v = larger(v, __shfl_xor_sync(~0u, v, distance));
    return v;
}

// The best of the values that a thread has seen, in rising order of tokens.
struct Best {
    float value = -INFINITY;
    int token = 0;
    bool any = false, nan = false;

    __device__ __forceinline__ void see(float v, int t) {
        if (v > value || !any) value = v, token = t, any = true;
        nan |= v != v;
    }

    __device__ __forceinline__ u64 rank() const { return nan ? NAN_RANK : any ? rankOf(keyOf(value), token) : 0; }
};

// What of a row belongs to a block.
struct Part {
    int begin, count;
};

__device__ __forceinline__ Part partOf(int vocab) {
    const int blocks = clusterSize();
    const int each = ((vocab + blocks - 1) / blocks + 3) / 4 * 4;
    const int begin = min(vocab, static_cast<int>(clusterRank()) * each);
    return {begin, min(vocab, begin + each) - begin};
}

__device__ __forceinline__ bool isFinite(float v) { return v >= -FLT_MAX && v <= FLT_MAX; }

__device__ __forceinline__ float logitOfBest(u64 best) { return best == NAN_RANK ? NAN : logitOf(keyOfRank(best)); }

__device__ __forceinline__ void write(SampleOutcome* outcome, unsigned token, float most, float logprob) {
    *reinterpret_cast<int4*>(outcome) =
        int4{static_cast<int>(token), !isFinite(most), __float_as_int(most), __float_as_int(logprob)};
}

// One cluster per row; rows null: all. outcomes may lie in pinned host memory.
extern "C" __global__ void __launch_bounds__(THREADS)
    argmax(const float* logits, long long stride, int vocab, const int* rows, SampleOutcome* outcomes) {
    __shared__ u64 bests[WARPS];
    __shared__ u64 ofBlocks[MAX_BLOCKS];
    allowNextKernel();
    awaitPreviousKernel();
    const int row = rows == nullptr ? blockIdx.y : rows[blockIdx.y];
    const Part part = partOf(vocab);
    const float* source = logits + row * stride + part.begin;
    const float4* vectors = reinterpret_cast<const float4*>(source);
    Best best;
    const int whole = part.count / 4;
    constexpr int AHEAD = 4;
    for (int i = threadIdx.x; i < whole; i += AHEAD * THREADS) {
        float4 v[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++)
            if (i + k * THREADS < whole) v[k] = vectors[i + k * THREADS];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (i + k * THREADS >= whole) continue;
            const int token = part.begin + 4 * (i + k * THREADS);
            best.see(v[k].x, token);
            best.see(v[k].y, token + 1);
            best.see(v[k].z, token + 2);
            best.see(v[k].w, token + 3);
        }
    }
    u64 rank = best.rank();
    if (4 * whole + static_cast<int>(threadIdx.x) < part.count) {
        Best last;
        last.see(source[4 * whole + threadIdx.x], part.begin + 4 * whole + threadIdx.x);
        rank = larger(rank, last.rank());
    }
    rank = largestOfWarp(rank);
    if (threadIdx.x % WARP == 0) bests[threadIdx.x / WARP] = rank;
    __syncthreads();
    if (threadIdx.x < WARP) {
        rank = largestOfWarp(threadIdx.x < WARPS ? bests[threadIdx.x] : 0);
        if (threadIdx.x == 0) storeToBlock(ofBlocks + clusterRank(), 0, rank);
    }
    clusterBarrier();
    if (clusterRank() == 0 && threadIdx.x == 0) {
        for (unsigned b = 1; b < clusterSize(); b++) rank = larger(rank, ofBlocks[b]);
        write(outcomes + row, tokenOf(rank), logitOfBest(rank), 0);
    }
}

// Tokens and their probabilities by ranges of the ranking, best range first.
struct Table {
    unsigned counts[RANGES];
    u64 masses[RANGES];
    u64 lows[RANGES];        // lowest rank of each range
};

// A beginning of the ranking: the ranks from `last` on.
struct Prefix {
    u64 last;
    u64 count;
    u64 mass;
};

struct Shared {
    u64 board[2][MAX_BLOCKS][2 * RANGES];  // what blocks tell each other, by turns: see Row::turn
    u64 warps[WARPS][2 * RANGES];
    u64 own[2][CANDIDATES + 1];            // candidates of this block, by turns; the last entry is their number
    u64 all[CANDIDATES][2];                // and of all blocks, with their masses
    int starts[MAX_BLOCKS + 1];
    Table first, next;
    Prefix found;
    unsigned nearCount;                    // may exceed NEAR: then near is of no use
    unsigned short near[NEAR];             // places of the block's logits that are in all but the last range of `first`
};

__shared__ Shared shared;
extern __shared__ float4 copyOfRow[];

// Threads of a warp may come to it one after the other.
__device__ __forceinline__ void joinCluster() {
    __syncwarp();
    clusterBarrier();
}

// A row in the hands of a cluster. All threads of all blocks call the same methods in the same order. What is called from
// several places is not inlined: it would not fit the registers.
template <bool IN_SHARED>
struct Row {
    float* outside;   // the block's part of the row's copy, if it is not in shared memory
    Part part;
    int vocab;
    unsigned round = 0;

    u64 top = 0;      // rank of the best
    float most = 0;   // its logit
    float slope = 0;  // of the probabilities' binary logarithm

    __device__ __forceinline__ float* values() const {
        return IN_SHARED ? reinterpret_cast<float*>(copyOfRow) : outside;
    }

    __device__ __forceinline__ u64 mass(float value) const {
        float p;
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(p) : "f"((value - most) * slope));
        return __float2ull_rn(p * UNIT);
    }

    // Calls body(value, place) for all of the block's part, in rising order of places per thread.
    template <class Body>
    __device__ __forceinline__ void each(Body body) const {
        for (int i = 4 * threadIdx.x; i < part.count; i += 4 * THREADS) {
            const float4 v = *reinterpret_cast<const float4*>(values() + i);
            body(v.x, i);
            if (i + 1 < part.count) body(v.y, i + 1);
            if (i + 2 < part.count) body(v.z, i + 2);
            if (i + 3 < part.count) body(v.w, i + 3);
        }
    }

    // Calls body(value, rank) for the ranks low .. high.
    template <class Body>
    __device__ __forceinline__ void eachBetween(u64 low, u64 high, Body body) const {
        const unsigned lowKey = keyOfRank(low), highKey = keyOfRank(high);
        auto visit = [&](float v, int place) {
            const unsigned key = keyOf(v);
            if (key < lowKey || key > highKey) return;
            const u64 rank = rankOf(key, part.begin + place);
            if (rank >= low && rank <= high) body(v, rank);
        };
        if (low >= shared.first.lows[RANGES - 2] && shared.nearCount <= NEAR) {
            for (int i = threadIdx.x; i < static_cast<int>(shared.nearCount); i += THREADS)
                visit(values()[shared.near[i]], shared.near[i]);
        } else {
            each(visit);
        }
    }

    // Where this round's messages lie. A block is at most one cluster barrier ahead of another, so that what it writes
    // for the next round must not lie where the other still reads; the round after that may.
    __device__ __forceinline__ int turn() const { return round & 1; }

    // Of all threads' bests.
    __device__ void findBest(const Best& best) {
        const u64 rank = largestOfWarp(best.rank());
        if (threadIdx.x % WARP == 0) shared.warps[threadIdx.x / WARP][0] = rank;
        __syncthreads();
        if (threadIdx.x < WARP) {
            const u64 ofBlock = largestOfWarp(threadIdx.x < WARPS ? shared.warps[threadIdx.x][0] : 0);
            if (threadIdx.x < clusterSize()) storeToBlock(&shared.board[turn()][clusterRank()][0], threadIdx.x, ofBlock);
        }
        joinCluster();
        top = 0;
        for (unsigned b = 0; b < clusterSize(); b++) top = larger(top, shared.board[turn()][b][0]);
        most = logitOfBest(top);
        round++;
    }

    // Adds up the threads' counts and masses over the cluster. They come cumulated: each is of its range and all better
    // ones.
    __device__ void sumUp(unsigned (&counts)[RANGES], u64 (&masses)[RANGES], Table& into) {
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
#pragma unroll
        for (int b = RANGES - 1; b > 0; b--) counts[b] -= counts[b - 1], masses[b] -= masses[b - 1];
        u64 count = 0, mass = 0;
#pragma unroll
        for (int b = 0; b < RANGES; b++) {
            const unsigned n = __reduce_add_sync(~0u, counts[b]);
            const unsigned low = __reduce_add_sync(~0u, static_cast<unsigned>(masses[b] & 0xFFFFF));
            const unsigned middle = __reduce_add_sync(~0u, static_cast<unsigned>(masses[b] >> 20 & 0xFFFFF));
            const unsigned high = __reduce_add_sync(~0u, static_cast<unsigned>(masses[b] >> 40));
            if (lane == b) {
                count = n;
                mass = low + (static_cast<u64>(middle) << 20) + (static_cast<u64>(high) << 40);
            }
        }
        if (lane < RANGES) {
            shared.warps[warp][lane] = count;
            shared.warps[warp][RANGES + lane] = mass;
        }
        __syncthreads();
        const int blocks = clusterSize(), i = threadIdx.x % (2 * RANGES), b = threadIdx.x / (2 * RANGES);
        if (b < blocks) {
            u64 sum = 0;
#pragma unroll
            for (int w = 0; w < WARPS; w++) sum += shared.warps[w][i];
            storeToBlock(&shared.board[turn()][clusterRank()][i], b, sum);
        }
        joinCluster();
        if (b == 0) {
            u64 sum = 0;
            for (int block = 0; block < blocks; block++) sum += shared.board[turn()][block][i];
            if (i < RANGES) {
                into.counts[i] = static_cast<unsigned>(sum);
            } else {
                into.masses[i - RANGES] = sum;
            }
        }
        __syncthreads();
        round++;
    }

    // The logit at a distance below another, in units of 1 / factor. The same bits wherever it is inlined.
    __device__ __forceinline__ float below(float logit, float distance) const {
        return fmaf(-distance, LOG2_E / slope, logit);
    }

    // The first table: of the whole row, for probabilities e^(factor (logit - most)). Its ranges grow with the distance
    // from the best, as there are ever more tokens further down; the last one is the rest. Returns the probabilities' sum.
    __device__ __noinline__ u64 survey(float factor) {
        constexpr float DISTANCES[RANGES - 1] = {0.5f, 1, 2, 3, 4.5f, 6.5f, 9, 12};
        slope = factor * LOG2_E;
        float bounds[RANGES - 1];
#pragma unroll
        for (int b = 0; b < RANGES - 1; b++) {
            bounds[b] = below(most, DISTANCES[b]);
            if (threadIdx.x == b) shared.first.lows[b] = firstRank(keyOf(bounds[b]));
        }
        if (threadIdx.x == RANGES - 1) shared.first.lows[RANGES - 1] = 0;
        if (threadIdx.x == RANGES) shared.nearCount = part.count > 0x10000 ? NEAR + 1 : 0;  // places must fit 16 bits
        __syncthreads();
        unsigned counts[RANGES] = {};
        u64 masses[RANGES] = {};
        each([&](float v, int place) {
            const u64 m = mass(v);
            counts[RANGES - 1]++;
            masses[RANGES - 1] += m;
            if (!(v >= bounds[RANGES - 2])) return;
            const unsigned at = atomicAdd(&shared.nearCount, 1u);
            if (at < NEAR) shared.near[at] = static_cast<unsigned short>(place);
#pragma unroll
            for (int b = RANGES - 2; b >= 0; b--) {
                if (v < bounds[b]) return;
                counts[b]++, masses[b] += m;
            }
        });
        sumUp(counts, masses, shared.first);
        u64 total = 0;
#pragma unroll
        for (int b = 0; b < RANGES; b++) total += shared.first.masses[b];
        return total;
    }

    // Cuts the ranks low .. high into ranges: in equal parts of the logits, or, where they are hardly different, or not
    // evenly spread, of the ranks themselves. Used by turns, both together get anywhere soon.
    __device__ void cut(u64 low, u64 high, bool byValue, Table& into) {
        const int b = threadIdx.x;
        if (b < RANGES) {
            u64 bound = low;
            const float least = logitOf(keyOfRank(low)), best = logitOf(keyOfRank(high));
            // Nothing has rank 0, it stands for minus infinity.
            if (byValue && keyOfRank(high) - keyOfRank(low) >= 64 && (low == 0 || isFinite(least))) {
                constexpr float DISTANCES[RANGES - 1] = {1, 1.5f, 2, 3, 4, 6, 8, 12};
                const float value = low == 0 ? below(best, b < RANGES - 1 ? DISTANCES[b] : 0)
                                             : best - (best - least) * ((b + 1) * (1.0f / (RANGES - 1)));
                if (b < RANGES - 2 || low == 0) bound = larger(low, firstRank(keyOf(value)));
            } else {
                const int shift = max(0, 64 - __clzll(high - low) - RANGE_BITS);
                if (b < RANGES - 1) bound = low + (static_cast<u64>(RANGES - 2 - b) << shift);
            }
            into.lows[b] = b == RANGES - 1 ? low : bound;
        }
        __syncthreads();
    }

    // A table of the ranks low .. high.
    __device__ void divide(u64 low, u64 high, bool byValue, Table& into) {
        cut(low, high, byValue, into);
        unsigned counts[RANGES] = {};
        u64 masses[RANGES] = {};
        eachBetween(low, high, [&](float v, u64 rank) {
            const u64 m = mass(v);
#pragma unroll
            for (int b = RANGES - 1; b >= 0; b--) {
                if (rank < into.lows[b]) return;
                counts[b]++, masses[b] += m;
            }
        });
        sumUp(counts, masses, into);
    }

    // Brings the ranks low .. high, at most CANDIDATES, together in shared.all, in no order, with their masses. Returns
    // how many there are.
    __device__ __noinline__ int collect(u64 low, u64 high) {
        u64* own = shared.own[turn()];
        u64* number = own + CANDIDATES;
        if (threadIdx.x == 0) *number = 0;
        __syncthreads();
        eachBetween(low, high, [&](float, u64 rank) {
            const unsigned at = atomicAdd(reinterpret_cast<unsigned*>(number), 1u);
            if (at < CANDIDATES) own[at] = rank;
        });
        joinCluster();
        const int blocks = clusterSize();
        if (threadIdx.x < WARP) {
            const int mine = static_cast<int>(threadIdx.x) < blocks
                ? min(CANDIDATES, static_cast<int>(loadFromBlock(number, threadIdx.x))) : 0;
            int sum = mine;
#pragma unroll
            for (int distance = 1; distance <= MAX_BLOCKS; distance *= 2) {
                const int before = __shfl_up_sync(~0u, sum, distance);
                if (static_cast<int>(threadIdx.x) >= distance) sum += before;
            }
            if (threadIdx.x <= MAX_BLOCKS) shared.starts[threadIdx.x] = sum - mine;
        }
        __syncthreads();
        const int n = min(CANDIDATES, shared.starts[blocks]);
        if (static_cast<int>(threadIdx.x) < n) {
            const int i = threadIdx.x;
            int b = 0;
            while (shared.starts[b + 1] <= i) b++;
            const u64 rank = loadFromBlock(own + i - shared.starts[b], b);
            shared.all[i][0] = rank;
            shared.all[i][1] = mass(logitOf(keyOfRank(rank)));
        }
        __syncthreads();
        round++;
        return n;
    }

    // What lies before candidate i in the ranking; two neighbouring threads share the work.
    __device__ __forceinline__ void before(int i, int n, unsigned& count, u64& mass) const {
        const u64 rank = i < n ? shared.all[i][0] : ~0ull;
        count = 0, mass = 0;
        for (int j = threadIdx.x % 2; j < n; j += 2) {
            if (shared.all[j][0] > rank) count++, mass += shared.all[j][1];
        }
        count += __shfl_xor_sync(~0u, count, 1);
        mass += __shfl_xor_sync(~0u, mass, 1);
    }

    // The shortest beginning of the ranking that has `target` tokens, or probabilities that add up to `target`, if its
    // end is among the n candidates. count and sum are of what lies before all candidates.
    __device__ __noinline__ Prefix pick(int n, bool byMass, u64 target, u64 count, u64 sum) {
        unsigned countBefore;
        u64 massBefore;
        const int i = threadIdx.x / 2;
        before(i, n, countBefore, massBefore);
        if (i < n && threadIdx.x % 2 == 0) {
            count += countBefore, sum += massBefore;
            const u64 m = shared.all[i][1];
            const u64 begin = byMass ? sum : count, end = begin + (byMass ? m : 1);
            if (begin < target && end >= target) shared.found = {shared.all[i][0], count + 1, sum + m};
        }
        __syncthreads();
        const Prefix prefix = shared.found;
        __syncthreads();
        return prefix;
    }

    // The same of the whole row, of which there is as much. After survey().
    __device__ __noinline__ Prefix find(bool byMass, u64 target) {
        const Table* table = &shared.first;
        u64 low = 0, high = top, count = 0, sum = 0;  // the last two of what lies before the range
        for (bool byValue = true;; byValue = !byValue) {
            int range = 0;
            for (; range < RANGES - 1; range++) {
                const unsigned n = table->counts[range];
                const u64 m = table->masses[range];
                if ((byMass ? sum + m : count + n) >= target) break;
                count += n, sum += m;
            }
            low = table->lows[range];
            if (range > 0) high = min(high, table->lows[range - 1] - 1);
            if (table->counts[range] <= CANDIDATES) break;
            __syncthreads();  // all have read the table
            divide(low, high, byValue, shared.next);
            table = &shared.next;
        }
        return pick(collect(low, high), byMass, target, count, sum);
    }

    // Sum of the probabilities from a rank on.
    __device__ u64 massFrom(u64 last) {
        divide(last, top, true, shared.next);
        u64 sum = 0;
        for (int b = 0; b < RANGES; b++) sum += shared.next.masses[b];
        __syncthreads();
        return sum;
    }

    // The n best tokens in order, with their log probabilities, by the cluster's first block.
    __device__ void report(int n, double logSum, SampleOutcome* outcome) {
        if (n == 0) return;
        const Prefix prefix = find(false, n);
        const int found = collect(prefix.last, top);
        unsigned rank;
        u64 unused;
        const int i = threadIdx.x / 2;
        before(i, found, rank, unused);
        if (clusterRank() == 0 && i < found && threadIdx.x % 2 == 0 && rank < MAX_TOP) {
            outcome->topTokens[rank] = tokenOf(shared.all[i][0]);
            outcome->topLogprobs[rank] = static_cast<float>(logitOf(keyOfRank(shared.all[i][0])) - logSum);
        }
        __syncthreads();
    }

    __device__ void adjust(const SampleParams& p, const Adjustment* adjustments) {
        for (int i = p.firstAdjustment + threadIdx.x; i < p.endAdjustment; i += THREADS) {
            const Adjustment a = adjustments[i];
            const int at = a.token - part.begin;
            if (at < 0 || at >= part.count) continue;
            float value = static_cast<float>(values()[at] + a.bias);
            if (a.count >= 0) {
                double v = value;
                v = v > 0 ? v / p.repetition : v * p.repetition;
                if (a.count > 0) v -= p.presence + a.count * p.frequency;
                value = static_cast<float>(v);
            }
            values()[at] = value;
        }
        __syncthreads();
        Best best;
        each([&](float v, int place) { best.see(v, part.begin + place); });
        findBest(best);
    }

    // The token, from what the parameters leave of the ranking. As soon as that fits, it is kept as candidates.
    __device__ unsigned draw(const SampleParams& p, u64 total) {
        Prefix prefix = {0, static_cast<u64>(vocab), total};
        int n = 0;  // candidates, if they are all that is left
        auto keep = [&](const Prefix& left) {
            prefix = left;
            if (n == 0 && prefix.count <= CANDIDATES) n = collect(prefix.last, top);
        };
        auto shortest = [&](u64 target) {
            target = min(prefix.mass, larger(target, 1));
            return n > 0 ? pick(n, true, target, 0, 0) : find(true, target);
        };
        if (p.topK > 0 && p.topK < vocab) keep(find(false, p.topK));
        if (p.topP < 1) keep(shortest(static_cast<u64>(ceil(p.topP * static_cast<double>(prefix.mass)))));
        if (p.minOffset > -INFINITY) {
            const u64 least = firstRank(keyOf(__double2float_ru(most + p.minOffset)));
            if (least > prefix.last) {
                u64 mass = 0;
                for (int i = 0; i < n; i++) mass += shared.all[i][0] >= least ? shared.all[i][1] : 0;
                prefix.mass = n > 0 ? mass : massFrom(least);
            }
        }
        return tokenOf(shortest(static_cast<u64>(p.uniform * static_cast<double>(prefix.mass)) + 1).last);
    }
};

// One cluster per row. workspace null: the row is kept in shared memory, 4 bytes per token of a block's part.
template <bool IN_SHARED>
__device__ __forceinline__ void sampleRow(const float* logits, long long stride, int vocab, const SampleParams* params,
                                          const Adjustment* adjustments, float* workspace, SampleOutcome* outcomes) {
    allowNextKernel();
    awaitPreviousKernel();
    const SampleParams p = params[blockIdx.y];
    const Part part = partOf(vocab);
    const float* source = logits + p.row * stride;
    SampleOutcome* outcome = outcomes + p.row;
    float4* values = IN_SHARED
        ? copyOfRow
        : reinterpret_cast<float4*>(workspace + static_cast<long long>(blockIdx.y) * ((vocab + 3) / 4 * 4) + part.begin);
    const float4* from = reinterpret_cast<const float4*>(source + part.begin);
    const int vectors = (part.count + 3) / 4;
    Best best;
#pragma unroll 4
    for (int i = threadIdx.x; i < vectors; i += THREADS) {
        const float4 v = from[i];
        values[i] = v;
        const float logits[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (4 * i + k < part.count) best.see(logits[k], part.begin + 4 * i + k);
    }
    // No barrier: a thread reads its own values first, and there are barriers before others' change.

    Row<IN_SHARED> row{reinterpret_cast<float*>(values), part, vocab};
    const bool speaks = clusterRank() == 0 && threadIdx.x == 0;
    row.findBest(best);
    if (isFinite(row.most)) {
        double logSum = 0;
        u64 total = 0;
        if (p.logprobs >= 0) {
            total = row.survey(1);
            logSum = row.most + log(static_cast<double>(total) * (1 / static_cast<double>(UNIT)));
            row.report(min(p.logprobs, vocab), logSum, outcome);
        }
        const bool adjusted = p.endAdjustment > p.firstAdjustment;
        if (adjusted) row.adjust(p, adjustments);
        if (isFinite(row.most)) {
            unsigned token = tokenOf(row.top);
            if (!p.greedy) {
                if (adjusted || p.logprobs < 0 || p.factor != 1) total = row.survey(p.factor);
                token = row.draw(p, total);
            }
            if (speaks) {
                write(outcome, token, row.most, static_cast<float>(source[token] - logSum));
            }
        }
    }
    if (speaks && !isFinite(row.most)) write(outcome, 0, row.most, 0);
    joinCluster();  // no block may leave while others read its shared memory
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    sample_rows(const float* logits, long long stride, int vocab, const SampleParams* params,
                const Adjustment* adjustments, SampleOutcome* outcomes) {
    sampleRow<true>(logits, stride, vocab, params, adjustments, nullptr, outcomes);
}

// workspace: 4 bytes per row and token, tokens rounded up to a multiple of 4.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    sample_rows_in_workspace(const float* logits, long long stride, int vocab, const SampleParams* params,
                             const Adjustment* adjustments, float* workspace, SampleOutcome* outcomes) {
    sampleRow<false>(logits, stride, vocab, params, adjustments, workspace, outcomes);
}
