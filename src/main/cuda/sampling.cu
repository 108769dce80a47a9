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
constexpr int BUCKETS = 8;         // ranges that a pass over the row tells apart
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

// Tokens and their probabilities by ranges of the ranking, best range first. The last one is everything below the others.
struct Table {
    unsigned counts[BUCKETS + 1];
    u64 masses[BUCKETS + 1];
};

// A beginning of the ranking: the ranks from `last` on.
struct Prefix {
    u64 last;
    u64 mass;
};

struct Shared {
    u64 board[2][MAX_BLOCKS][2 * (BUCKETS + 1)];  // what blocks tell each other, by turns: see Row::turn
    u64 warps[WARPS][2 * (BUCKETS + 1)];
    u64 own[2][CANDIDATES + 1];                   // candidates of this block, by turns; the last entry is their number
    u64 all[CANDIDATES][2];                       // and of all blocks, with their masses
    int starts[MAX_BLOCKS + 1];
    Table first, next;
    Prefix found;
    u64 best;
};

// A row in the hands of a cluster. All threads of all blocks call the same methods in the same order.
struct Row {
    Shared& shared;
    float* values;   // the block's part
    Part part;
    int vocab;
    unsigned round = 0;

    u64 top = 0;     // rank of the best
    float most = 0;  // its logit
    float slope = 0; // of the probabilities' binary logarithm

    __device__ __forceinline__ u64 mass(float value) const {
        float p;
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(p) : "f"((value - most) * slope));
        return __float2ull_rn(p * UNIT);
    }

    // Calls body(value, token) for all of the block's part, in rising order of tokens per thread.
    template <class Body>
    __device__ __forceinline__ void each(Body body) const {
        for (int i = 4 * threadIdx.x; i < part.count; i += 4 * THREADS) {
            const float4 v = *reinterpret_cast<const float4*>(values + i);
            const int token = part.begin + i;
            body(v.x, token);
            if (i + 1 < part.count) body(v.y, token + 1);
            if (i + 2 < part.count) body(v.z, token + 2);
            if (i + 3 < part.count) body(v.w, token + 3);
        }
    }

    // Where this round's messages lie. A block is at most one cluster barrier ahead of another, so that what it writes
    // for the next round must not lie where the other still reads; the round after that may.
    __device__ __forceinline__ int turn() const { return round & 1; }

    __device__ void findBest() {
        Best best;
        each([&](float v, int token) { best.see(v, token); });
        const u64 rank = largestOfWarp(best.rank());
        if (threadIdx.x % WARP == 0) shared.warps[threadIdx.x / WARP][0] = rank;
        __syncthreads();
        if (threadIdx.x < WARP) {
            const u64 ofBlock = largestOfWarp(threadIdx.x < WARPS ? shared.warps[threadIdx.x][0] : 0);
            if (threadIdx.x < clusterSize()) storeToBlock(&shared.board[turn()][clusterRank()][0], threadIdx.x, ofBlock);
        }
        clusterBarrier();
        top = 0;
        for (unsigned b = 0; b < clusterSize(); b++) top = larger(top, shared.board[turn()][b][0]);
        most = logitOfBest(top);
        round++;
    }

    // Adds up the threads' counts and masses over the cluster.
    __device__ void sumUp(const unsigned (&counts)[BUCKETS + 1], const u64 (&masses)[BUCKETS + 1], Table& into) {
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        u64 count = 0, mass = 0;
#pragma unroll
        for (int b = 0; b <= BUCKETS; b++) {
            const unsigned n = __reduce_add_sync(~0u, counts[b]);
            const unsigned low = __reduce_add_sync(~0u, static_cast<unsigned>(masses[b] & 0xFFFFF));
            const unsigned middle = __reduce_add_sync(~0u, static_cast<unsigned>(masses[b] >> 20 & 0xFFFFF));
            const unsigned high = __reduce_add_sync(~0u, static_cast<unsigned>(masses[b] >> 40));
            if (lane == b) {
                count = n;
                mass = low + (static_cast<u64>(middle) << 20) + (static_cast<u64>(high) << 40);
            }
        }
        if (lane <= BUCKETS) {
            shared.warps[warp][lane] = count;
            shared.warps[warp][BUCKETS + 1 + lane] = mass;
        }
        __syncthreads();
        const int i = threadIdx.x;
        if (i < 2 * (BUCKETS + 1)) {
            u64 sum = 0;
            for (int w = 0; w < WARPS; w++) sum += shared.warps[w][i];
            for (unsigned b = 0; b < clusterSize(); b++) storeToBlock(&shared.board[turn()][clusterRank()][i], b, sum);
        }
        clusterBarrier();
        if (i < 2 * (BUCKETS + 1)) {
            u64 sum = 0;
            for (unsigned b = 0; b < clusterSize(); b++) sum += shared.board[turn()][b][i];
            if (i <= BUCKETS) {
                into.counts[i] = static_cast<unsigned>(sum);
            } else {
                into.masses[i - BUCKETS - 1] = sum;
            }
        }
        __syncthreads();
        round++;
    }

    // Lower end of a range of the first table: a distance from the best logit that grows with the ranges, as there are
    // ever more tokens further down.
    __device__ __forceinline__ float bound(int b) const {
        constexpr float DISTANCES[BUCKETS] = {0.5f, 1, 2, 3, 4.5f, 6.5f, 10, 16};
        return fmaf(-DISTANCES[b], LOG2_E / slope, most);  // the same bits wherever it is inlined
    }

    // The first table: of the whole row, for probabilities e^(factor (logit - most)). Returns their sum.
    __device__ u64 survey(float factor) {
        slope = factor * LOG2_E;
        float bounds[BUCKETS];
#pragma unroll
        for (int b = 0; b < BUCKETS; b++) bounds[b] = bound(b);
        unsigned counts[BUCKETS + 1] = {};
        u64 masses[BUCKETS + 1] = {};
        each([&](float v, int) {
            const u64 m = mass(v);
            counts[BUCKETS]++;
            masses[BUCKETS] += m;
#pragma unroll
            for (int b = 0; b < BUCKETS; b++) {
                if (v >= bounds[b]) counts[b]++, masses[b] += m;
            }
        });
#pragma unroll
        for (int b = BUCKETS; b > 0; b--) counts[b] -= counts[b - 1], masses[b] -= masses[b - 1];
        sumUp(counts, masses, shared.first);
        u64 total = 0;
#pragma unroll
        for (int b = 0; b <= BUCKETS; b++) total += shared.first.masses[b];
        return total;
    }

    // A table of the ranks low .. high: its ranges are 2^shift ranks long, the first one being the last of low + j 2^shift.
    __device__ void divide(u64 low, u64 high, int shift, Table& into) {
        const unsigned lowKey = keyOfRank(low), highKey = keyOfRank(high);
        unsigned counts[BUCKETS + 1] = {};
        u64 masses[BUCKETS + 1] = {};
        each([&](float v, int token) {
            const unsigned key = keyOf(v);
            if (key < lowKey || key > highKey) return;
            const u64 rank = rankOf(key, token);
            if (rank < low || rank > high) return;
            const int bucket = BUCKETS - 1 - static_cast<int>((rank - low) >> shift);
            const u64 m = mass(v);
#pragma unroll
            for (int b = 0; b < BUCKETS; b++) {
                if (bucket == b) counts[b]++, masses[b] += m;
            }
        });
        sumUp(counts, masses, into);
    }

    // Brings the ranks low .. high, at most CANDIDATES, together in shared.all, in no order, with their masses. Returns
    // how many there are.
    __device__ int collect(u64 low, u64 high) {
        u64* own = shared.own[turn()];
        u64* number = own + CANDIDATES;
        if (threadIdx.x == 0) *number = 0;
        __syncthreads();
        const unsigned lowKey = keyOfRank(low), highKey = keyOfRank(high);
        each([&](float v, int token) {
            const unsigned key = keyOf(v);
            if (key < lowKey || key > highKey) return;
            const u64 rank = rankOf(key, token);
            if (rank < low || rank > high) return;
            const unsigned at = atomicAdd(reinterpret_cast<unsigned*>(number), 1u);
            if (at < CANDIDATES) own[at] = rank;
        });
        clusterBarrier();
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

    // The shortest beginning of the ranking that has `target` tokens, or probabilities that add up to `target`, of which
    // there are as many. After survey().
    __device__ Prefix find(bool byMass, u64 target) {
        const Table* table = &shared.first;
        u64 low = 0, high = 0, count = 0, sum = 0;  // the last two of what lies before the range
        int shift = 0;
        while (true) {
            int chosen = -1;
            unsigned inside = 0;
            for (int b = 0; b <= BUCKETS; b++) {
                const unsigned n = table->counts[b];
                const u64 m = table->masses[b];
                if ((byMass ? sum + m : count + n) >= target) {
                    chosen = b, inside = n;
                    break;
                }
                count += n, sum += m;
            }
            if (table == &shared.first) {
                low = chosen == BUCKETS ? 0 : firstRank(keyOf(bound(chosen)));
                high = chosen == 0 ? top : firstRank(keyOf(bound(chosen - 1))) - 1;
            } else {
                low += static_cast<u64>(BUCKETS - 1 - chosen) << shift;
                const u64 end = low + (1ull << shift) - 1;
                high = end < high ? end : high;
            }
            if (inside <= CANDIDATES) break;
            shift = max(0, 64 - __clzll(high - low) - 3);
            divide(low, high, shift, shared.next);
            table = &shared.next;
        }
        const int n = collect(low, high);
        unsigned countBefore;
        u64 massBefore;
        const int i = threadIdx.x / 2;
        before(i, n, countBefore, massBefore);
        if (i < n && threadIdx.x % 2 == 0) {
            const u64 m = shared.all[i][1];
            const u64 begin = byMass ? sum + massBefore : count + countBefore;
            const u64 end = begin + (byMass ? m : 1);
            if (begin < target && end >= target) shared.found = {shared.all[i][0], sum + massBefore + m};
        }
        __syncthreads();
        return shared.found;
    }

    // Sum of the probabilities from a rank on.
    __device__ u64 massFrom(u64 last) {
        divide(last, top, max(0, 64 - __clzll(top - last) - 3), shared.next);
        u64 sum = 0;
        for (int b = 0; b < BUCKETS; b++) sum += shared.next.masses[b];
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
            float value = static_cast<float>(values[at] + a.bias);
            if (a.count >= 0) {
                double v = value;
                v = v > 0 ? v / p.repetition : v * p.repetition;
                if (a.count > 0) v -= p.presence + a.count * p.frequency;
                value = static_cast<float>(v);
            }
            values[at] = value;
        }
        __syncthreads();
    }

    // The token, from what the parameters leave of the ranking.
    __device__ unsigned draw(const SampleParams& p, u64 total) {
        u64 mass = total;
        u64 last = 0;
        if (p.topK > 0 && p.topK < vocab) {
            const Prefix prefix = find(false, p.topK);
            last = prefix.last, mass = prefix.mass;
        }
        if (p.topP < 1) {
            const u64 target = static_cast<u64>(ceil(p.topP * static_cast<double>(mass)));
            const Prefix prefix = find(true, min(mass, larger(target, 1)));
            last = prefix.last, mass = prefix.mass;
        }
        if (p.minOffset > -INFINITY) {
            const u64 least = firstRank(keyOf(__double2float_ru(most + p.minOffset)));
            if (least > last) mass = massFrom(least);
        }
        const u64 target = static_cast<u64>(p.uniform * static_cast<double>(mass)) + 1;
        return tokenOf(find(true, min(mass, target)).last);
    }
};

// One cluster per row. workspace null: the row is kept in shared memory, 4 bytes per token of a block's part.
template <bool IN_SHARED>
__device__ __forceinline__ void sampleRow(const float* logits, long long stride, int vocab, const SampleParams* params,
                                          const Adjustment* adjustments, float* workspace, SampleOutcome* outcomes) {
    extern __shared__ float4 copy[];
    __shared__ Shared shared;
    allowNextKernel();
    awaitPreviousKernel();
    const SampleParams p = params[blockIdx.y];
    const Part part = partOf(vocab);
    const float* source = logits + p.row * stride;
    SampleOutcome* outcome = outcomes + p.row;
    float4* values = IN_SHARED
        ? copy
        : reinterpret_cast<float4*>(workspace + static_cast<long long>(blockIdx.y) * ((vocab + 3) / 4 * 4) + part.begin);
    const float4* from = reinterpret_cast<const float4*>(source + part.begin);
    const int vectors = (part.count + 3) / 4;
#pragma unroll 4
    for (int i = threadIdx.x; i < vectors; i += THREADS) values[i] = from[i];
    // No barrier: a thread looks at its own values first.

    Row row{shared, reinterpret_cast<float*>(values), part, vocab};
    const bool speaks = clusterRank() == 0 && threadIdx.x == 0;
    row.findBest();
    if (isFinite(row.most)) {
        double logSum = 0;
        u64 total = 0;
        if (p.logprobs >= 0) {
            total = row.survey(1);
            logSum = row.most + log(static_cast<double>(total) * (1 / static_cast<double>(UNIT)));
            row.report(min(p.logprobs, vocab), logSum, outcome);
        }
        const bool adjusted = p.endAdjustment > p.firstAdjustment;
        if (adjusted) {
            row.adjust(p, adjustments);
            row.findBest();
        }
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
    clusterBarrier();  // no block may leave while others read its shared memory
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
