// Causal attention within documents on tensor cores: bfloat16, heads of 64 or 128 (Dao 2023,
// "FlashAttention-2").
//
// Scores never reach memory: a block goes over tiles of 64 keys (or queries) in shared memory and keeps what
// it sums in registers. The backward is two kernels, one that owns keys and one that owns queries. It
// computes scores twice for that, but nothing is added atomically, so bits do not change from run to run.
//
// Tiles lie in shared memory in pieces of 16 bytes whose places are permuted by row, so that the eight rows
// which ldmatrix reads at once lie in different banks. Fragments are as in machine.cuh: a warp owns 16 rows
// of a result, a thread rows g and g + 8.

// log₂ e: exponentials are taken by powers of two.
#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

struct Attention {
    const bf16* q;
    const bf16* k;
    const bf16* v;
    // (N) of the first key each query sees, as index within its row of T.
    const unsigned* document_starts;
    bf16* out;
    // (N, H)
    float* lse;
    i64 q_stride;
    i64 k_stride;
    i64 v_stride;
    i64 out_stride;
    i64 lse_stride;
    int length;
    // Query heads for each key/value head.
    int group;
    float scale;
    int unused;
};

struct AttentionBackward {
    Attention forward;
    const bf16* dout;
    bf16* dq;
    bf16* dk;
    bf16* dv;
    // (N, H): Σ dout ⊙ out.
    float* delta;
    i64 dout_stride;
    i64 dq_stride;
    i64 dk_stride;
    i64 dv_stride;
};

// A tile of ROWS × D in shared memory.
template <int ROWS, int D>
struct Tile {
    enum { BYTES = ROWS * D * 2, PIECES = D / 8 };
    char* base;

    __device__ __forceinline__ char* at(int row, int column) const { return base + row * (D * 2) + (((column / 8) ^ (row & 7)) * 16); }

    // Rows `first..` of a matrix; those from `end` on are zeros. All threads of the block take part; the
    // caller commits.
    template <int THREADS>
    __device__ __forceinline__ void load(const bf16* from, i64 stride, int first, int end) const {
#pragma unroll
        for (int i = 0; i < ROWS * PIECES / THREADS; i++) {
            int piece = i * THREADS + threadIdx.x, row = piece / PIECES, column = piece % PIECES * 8;
            bool valid = first + row < end;
            copy_async_16(at(row, column), from + (valid ? (i64)(first + row) * stride + column : 0), valid);
        }
    }

    // The operand a of 16 rows at 16 columns.
    __device__ __forceinline__ void a(unsigned (&r)[4], int row, int column) const {
        int lane = threadIdx.x % 32;
        load_matrix_x4(r, at(row + lane % 16, column + lane / 16 * 8));
    }

    // The operand b of two products whose columns are 16 rows of the tile, at 16 of its columns: a product
    // with its transpose.
    __device__ __forceinline__ void b_of_rows(unsigned (&r)[4], int row, int column) const {
        int lane = threadIdx.x % 32;
        load_matrix_x4(r, at(row + lane % 8 + lane / 16 * 8, column + lane / 8 % 2 * 8));
    }

    // The operand b of two products whose columns are 16 columns of the tile, at 16 of its rows.
    __device__ __forceinline__ void b_of_columns(unsigned (&r)[4], int row, int column) const {
        int lane = threadIdx.x % 32;
        load_matrix_x4_transposed(r, at(row + lane % 16, column + lane / 16 * 8));
    }
};

// Two tiles, one behind the other.
template <int ROWS, int D>
struct Pair {
    char* base;
    __device__ __forceinline__ Tile<ROWS, D> operator[](int i) const { return {base + i * Tile<ROWS, D>::BYTES}; }
};

// sum (16 × 8·N) += a (16 rows of `left` from `row` on) · rightᵀ
template <int N, int D, typename Left, typename Right>
__device__ __forceinline__ void multiply_by_rows(float (&sum)[N][4], const Left& left, int row, const Right& right) {
#pragma unroll
    for (int c = 0; c < D; c += 16) {
        unsigned a[4];
        left.a(a, row, c);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned b[4];
            right.b_of_rows(b, n * 8, c);
            mma_m16n8k16(sum[n], a, {b[0], b[1]});
            mma_m16n8k16(sum[n + 1], a, {b[2], b[3]});
        }
    }
}

// sum (16 × D) += x (16 × 8·N, in registers, rounded) · right
template <int N, int D, typename Right>
__device__ __forceinline__ void multiply_by_columns(float (&sum)[D / 8][4], const float (&x)[N][4], const Right& right) {
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        // What a thread holds of a result is what it must hold of an operand a.
        unsigned a[4] = {pack_bf16(x[n][0], x[n][1]), pack_bf16(x[n][2], x[n][3]), pack_bf16(x[n + 1][0], x[n + 1][1]),
                         pack_bf16(x[n + 1][2], x[n + 1][3])};
#pragma unroll
        for (int c = 0; c < D / 8; c += 2) {
            unsigned b[4];
            right.b_of_columns(b, n * 8, c * 8);
            mma_m16n8k16(sum[c], a, {b[0], b[1]});
            mma_m16n8k16(sum[c + 1], a, {b[2], b[3]});
        }
    }
}

template <int N>
__device__ __forceinline__ void clear(float (&x)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++) x[n][0] = x[n][1] = x[n][2] = x[n][3] = 0.0f;
}

// Two rows (g and g + 8 of `rows`) of a result in registers to memory, times a factor each.
template <int D>
__device__ __forceinline__ void store_rows(bf16* to, i64 stride, int row, int end, const float (&x)[D / 8][4], float low, float high) {
    int lane = threadIdx.x % 32, g = row + lane / 4;
#pragma unroll
    for (int c = 0; c < D / 8; c++) {
        int column = c * 8 + lane % 4 * 2;
        if (g < end) *(unsigned*)(to + (i64)g * stride + column) = pack_bf16(x[c][0] * low, x[c][1] * low);
        if (g + 8 < end) *(unsigned*)(to + (i64)(g + 8) * stride + column) = pack_bf16(x[c][2] * high, x[c][3] * high);
    }
}

enum { KEYS = 64 };

// Grid (tiles of queries, H, B). The tiles with the most keys come first.
template <int D, int WARPS>
__device__ __forceinline__ void attention_of(const Attention& p) {
    enum { QUERIES = WARPS * 16, THREADS = WARPS * 32, N = KEYS / 8 };
    DYNAMIC_SHARED(shared);
    Tile<QUERIES, D> query_tile = {shared};
    // Two of each, which are filled in turn.
    Pair<KEYS, D> key_tiles = {shared + QUERIES * D * 2}, value_tiles = {key_tiles.base + 2 * KEYS * D * 2};

    int first_query = (gridDim.x - 1 - blockIdx.x) * QUERIES, head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    i64 row = (i64)blockIdx.z * p.length;
    int last_query = min(first_query + QUERIES, p.length) - 1;
    const bf16 *q = p.q + row * p.q_stride + head * D, *k = p.k + row * p.k_stride + head / p.group * D,
               *v = p.v + row * p.v_stride + head / p.group * D;
    const unsigned* starts = p.document_starts + row;
    // Starts do not decrease: the first query sees furthest back, and the last one least.
    int first_tile = starts[first_query] / KEYS, end_tile = last_query / KEYS + 1, last_start = starts[last_query];
    int mine[2] = {first_query + warp * 16 + lane / 4, first_query + warp * 16 + lane / 4 + 8};
    int start[2] = {(int)starts[min(mine[0], last_query)], (int)starts[min(mine[1], last_query)]};

    query_tile.template load<THREADS>(q, p.q_stride, first_query, p.length);
    key_tiles[0].template load<THREADS>(k, p.k_stride, first_tile * KEYS, p.length);
    copy_async_commit();
    value_tiles[0].template load<THREADS>(v, p.v_stride, first_tile * KEYS, p.length);
    copy_async_commit();

    float out[D / 8][4], highest[2] = {LOWEST, LOWEST}, sum[2] = {0.0f, 0.0f};
    clear(out);
    float scale = p.scale * LOG2E;
    for (int tile = first_tile; tile < end_tile; tile++) {
        int now = (tile - first_tile) % 2, first_key = tile * KEYS;
        copy_async_wait<1>();
        __syncthreads();
        if (tile + 1 < end_tile) {
            key_tiles[1 - now].template load<THREADS>(k, p.k_stride, first_key + KEYS, p.length);
            copy_async_commit();
            value_tiles[1 - now].template load<THREADS>(v, p.v_stride, first_key + KEYS, p.length);
            copy_async_commit();
        }
        float x[N][4];
        clear(x);
        multiply_by_rows<N, D>(x, query_tile, warp * 16, key_tiles[now]);

        bool whole = first_key + KEYS - 1 <= first_query && last_start <= first_key;
        if (!whole) {
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int key = first_key + n * 8 + lane % 4 * 2 + i % 2;
                    if (key > mine[i / 2] || key < start[i / 2]) x[n][i] = LOWEST;
                }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float max = highest[half];
#pragma unroll
            for (int n = 0; n < N; n++) max = fmaxf(max, fmaxf(x[n][2 * half], x[n][2 * half + 1]));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
            // A query may see no key of this tile: nothing may be taken from −∞ then.
            float base = max == LOWEST ? 0.0f : max * scale;
            float shrink = power_of_two(highest[half] * scale - base);
            highest[half] = max;
            sum[half] *= shrink;
#pragma unroll
            for (int n = 0; n < N; n++) {
                x[n][2 * half] = power_of_two(x[n][2 * half] * scale - base);
                x[n][2 * half + 1] = power_of_two(x[n][2 * half + 1] * scale - base);
                sum[half] += x[n][2 * half] + x[n][2 * half + 1];
            }
#pragma unroll
            for (int c = 0; c < D / 8; c++) {
                out[c][2 * half] *= shrink;
                out[c][2 * half + 1] *= shrink;
            }
        }
        // The values of this tile: all that was committed before the next tile's two groups.
        if (tile + 1 < end_tile) {
            copy_async_wait<2>();
        } else {
            copy_async_wait<0>();
        }
        __syncthreads();
        multiply_by_columns<N, D>(out, x, value_tiles[now]);
    }
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 1);
        sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 2);
        inverse[half] = 1.0f / sum[half];
        if (lane % 4 == 0 && mine[half] < p.length)
            p.lse[(row + mine[half]) * p.lse_stride + head] = highest[half] * p.scale + logf(sum[half]);
    }
    store_rows<D>(p.out + row * p.out_stride + head * D, p.out_stride, first_query + warp * 16, p.length, out, inverse[0], inverse[1]);
}

KERNEL __launch_bounds__(128) void attention_64(Attention p) { attention_of<64, 4>(p); }
EXPORT(attention_64)
KERNEL __launch_bounds__(128) void attention_128(Attention p) { attention_of<128, 4>(p); }
EXPORT(attention_128)

// delta = Σ dout ⊙ out of each row and head; one warp each. Grid (N · H / 4).
template <int D>
__device__ __forceinline__ void attention_delta_of(const AttentionBackward& p, int heads, i64 rows) {
    i64 item = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (item >= rows * heads) return;
    i64 row = item / heads;
    int head = (int)(item % heads), column = head * D + threadIdx.x % 32 * (D / 32);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < D / 32; i += 2) {
        float a, b, c, d;
        widen_pair(*(const unsigned*)(p.dout + row * p.dout_stride + column + i), a, b);
        widen_pair(*(const unsigned*)(p.forward.out + row * p.forward.out_stride + column + i), c, d);
        sum += a * c + b * d;
    }
    sum = sum_of_warp(sum);
    if (threadIdx.x % 32 == 0) p.delta[row * heads + head] = sum;
}

struct AttentionDelta {
    AttentionBackward backward;
    i64 rows;
    int heads;
    int unused;
};

KERNEL void attention_delta_64(AttentionDelta p) { attention_delta_of<64>(p.backward, p.heads, p.rows); }
EXPORT(attention_delta_64)
KERNEL void attention_delta_128(AttentionDelta p) { attention_delta_of<128>(p.backward, p.heads, p.rows); }
EXPORT(attention_delta_128)

// Gradients of 64 keys and values of one head: over all queries that see them, of all heads of the group.
// Works on transposed scores (keys × queries), so that what is summed over queries comes out of products.
// Grid (tiles of keys, K, B).
template <int D, int QUERIES>
__device__ __forceinline__ void attention_keys_of(const AttentionBackward& b) {
    enum { THREADS = KEYS / 16 * 32, N = QUERIES / 8 };
    const Attention& p = b.forward;
    DYNAMIC_SHARED(shared);
    Tile<KEYS, D> key_tile = {shared}, value_tile = {shared + KEYS * D * 2};
    char* rest = shared + 2 * KEYS * D * 2;
    Pair<QUERIES, D> query_tiles = {rest}, dout_tiles = {rest + 2 * QUERIES * D * 2};
    float* rows_lse = (float*)(rest + 4 * QUERIES * D * 2);
    float* rows_delta = rows_lse + QUERIES;
    int* rows_start = (int*)(rows_delta + QUERIES);

    // The tiles that most queries see come first.
    int first_key = blockIdx.x * KEYS, kv_head = blockIdx.y, heads = gridDim.y * p.group;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    i64 row = (i64)blockIdx.z * p.length;
    const unsigned* starts = p.document_starts + row;
    int last_key = min(first_key + KEYS, p.length) - 1;
    int mine[2] = {first_key + warp * 16 + lane / 4, first_key + warp * 16 + lane / 4 + 8};

    // Queries from the first key on, until one that begins behind the last key. Starts do not decrease:
    // search for it.
    int low = last_key, high = p.length;
    while (low + 1 < high) {
        int middle = (low + high) / 2;
        if ((int)starts[middle] <= last_key) {
            low = middle;
        } else {
            high = middle;
        }
    }
    int first_tile = first_key / QUERIES, tiles = low / QUERIES + 1 - first_tile, steps = tiles * p.group;

    auto load = [&](int step) {
        int head = kv_head * p.group + step / tiles, first = (first_tile + step % tiles) * QUERIES;
        query_tiles[step % 2].template load<THREADS>(p.q + row * p.q_stride + head * D, p.q_stride, first, p.length);
        dout_tiles[step % 2].template load<THREADS>(b.dout + row * b.dout_stride + head * D, b.dout_stride, first, p.length);
        copy_async_commit();
    };
    key_tile.template load<THREADS>(p.k + row * p.k_stride + kv_head * D, p.k_stride, first_key, p.length);
    value_tile.template load<THREADS>(p.v + row * p.v_stride + kv_head * D, p.v_stride, first_key, p.length);
    load(0);

    float dk[D / 8][4], dv[D / 8][4];
    clear(dk);
    clear(dv);
    float scale = p.scale * LOG2E;
    for (int step = 0; step < steps; step++) {
        int head = kv_head * p.group + step / tiles, first_query = (first_tile + step % tiles) * QUERIES;
        Tile<QUERIES, D> queries = query_tiles[step % 2], douts = dout_tiles[step % 2];
        if (step + 1 < steps) {
            load(step + 1);
            copy_async_wait<1>();
        } else {
            copy_async_wait<0>();
        }
        if (threadIdx.x < QUERIES) {
            int i = threadIdx.x, query = first_query + i;
            bool there = query < p.length;
            // In units of the powers of two; +∞ makes the probability zero.
            rows_lse[i] = there ? p.lse[(row + query) * p.lse_stride + head] * LOG2E : -LOWEST;
            rows_delta[i] = there ? b.delta[(row + query) * heads + head] : 0.0f;
            rows_start[i] = there ? (int)starts[query] : 0;
        }
        __syncthreads();

        float x[N][4], dx[N][4];
        clear(x);
        multiply_by_rows<N, D>(x, key_tile, warp * 16, queries);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int column = n * 8 + lane % 4 * 2 + i % 2, key = mine[i / 2];
                // Nothing that is read depends on what is seen, or each element would be a branch.
                float probability = power_of_two(x[n][i] * scale - rows_lse[column]);
                bool seen = (key <= first_query + column) & (key >= rows_start[column]);
                x[n][i] = seen ? probability : 0.0f;
            }
        multiply_by_columns<N, D>(dv, x, douts);
        clear(dx);
        multiply_by_rows<N, D>(dx, value_tile, warp * 16, douts);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) dx[n][i] = x[n][i] * (dx[n][i] - rows_delta[n * 8 + lane % 4 * 2 + i % 2]);
        multiply_by_columns<N, D>(dk, dx, queries);
        __syncthreads();
    }
    store_rows<D>(b.dk + row * b.dk_stride + kv_head * D, b.dk_stride, first_key + warp * 16, p.length, dk, p.scale, p.scale);
    store_rows<D>(b.dv + row * b.dv_stride + kv_head * D, b.dv_stride, first_key + warp * 16, p.length, dv, 1.0f, 1.0f);
}

KERNEL __launch_bounds__(128) void attention_keys_64(AttentionBackward p) { attention_keys_of<64, 64>(p); }
EXPORT(attention_keys_64)
KERNEL __launch_bounds__(128) void attention_keys_128(AttentionBackward p) { attention_keys_of<128, 32>(p); }
EXPORT(attention_keys_128)

// Gradients of 64 queries. Grid (tiles of queries, H, B).
template <int D>
__device__ __forceinline__ void attention_queries_of(const AttentionBackward& b) {
    enum { WARPS = 4, QUERIES = WARPS * 16, THREADS = WARPS * 32, STEP = D == 64 ? 64 : 32, N = STEP / 8 };
    const Attention& p = b.forward;
    DYNAMIC_SHARED(shared);
    Tile<QUERIES, D> query_tile = {shared}, dout_tile = {shared + QUERIES * D * 2};
    char* rest = shared + 2 * QUERIES * D * 2;
    Pair<STEP, D> key_tiles = {rest}, value_tiles = {rest + 2 * STEP * D * 2};

    int first_query = (gridDim.x - 1 - blockIdx.x) * QUERIES, head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    i64 row = (i64)blockIdx.z * p.length;
    int last_query = min(first_query + QUERIES, p.length) - 1;
    const unsigned* starts = p.document_starts + row;
    int first_tile = starts[first_query] / STEP, end_tile = last_query / STEP + 1;
    int mine[2], start[2];
    float lse[2], delta[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        mine[half] = first_query + warp * 16 + lane / 4 + 8 * half;
        bool there = mine[half] <= last_query;
        i64 at = row + min(mine[half], last_query);
        start[half] = p.document_starts[at];
        lse[half] = there ? p.lse[at * p.lse_stride + head] * LOG2E : -LOWEST;
        delta[half] = there ? b.delta[at * gridDim.y + head] : 0.0f;
    }
    auto load = [&](int tile) {
        int now = (tile - first_tile) % 2;
        key_tiles[now].template load<THREADS>(p.k + row * p.k_stride + head / p.group * D, p.k_stride, tile * STEP, p.length);
        value_tiles[now].template load<THREADS>(p.v + row * p.v_stride + head / p.group * D, p.v_stride, tile * STEP, p.length);
        copy_async_commit();
    };
    query_tile.template load<THREADS>(p.q + row * p.q_stride + head * D, p.q_stride, first_query, p.length);
    dout_tile.template load<THREADS>(b.dout + row * b.dout_stride + head * D, b.dout_stride, first_query, p.length);
    load(first_tile);

    float dq[D / 8][4];
    clear(dq);
    float scale = p.scale * LOG2E;
    for (int tile = first_tile; tile < end_tile; tile++) {
        int now = (tile - first_tile) % 2, first_key = tile * STEP;
        if (tile + 1 < end_tile) {
            load(tile + 1);
            copy_async_wait<1>();
        } else {
            copy_async_wait<0>();
        }
        __syncthreads();
        float x[N][4], dx[N][4];
        clear(x);
        multiply_by_rows<N, D>(x, query_tile, warp * 16, key_tiles[now]);
        clear(dx);
        multiply_by_rows<N, D>(dx, dout_tile, warp * 16, value_tiles[now]);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int key = first_key + n * 8 + lane % 4 * 2 + i % 2, half = i / 2;
                float probability = power_of_two(x[n][i] * scale - lse[half]);
                bool seen = (key <= mine[half]) & (key >= start[half]);
                dx[n][i] = seen ? probability * (dx[n][i] - delta[half]) : 0.0f;
            }
        multiply_by_columns<N, D>(dq, dx, key_tiles[now]);
        __syncthreads();
    }
    store_rows<D>(b.dq + row * b.dq_stride + head * D, b.dq_stride, first_query + warp * 16, p.length, dq, p.scale, p.scale);
}

KERNEL __launch_bounds__(128) void attention_queries_64(AttentionBackward p) { attention_queries_of<64>(p); }
EXPORT(attention_queries_64)
KERNEL __launch_bounds__(128) void attention_queries_128(AttentionBackward p) { attention_queries_of<128>(p); }
EXPORT(attention_queries_128)
