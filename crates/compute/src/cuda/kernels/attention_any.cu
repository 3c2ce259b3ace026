// Attention of any type and head width up to 256, a warp or a few for each query or key, without tensor
// cores: f32, odd heads, and decoding, where a token attends to a cache. A lane takes a key of 32 when scores
// are made, and columns of the head otherwise.

enum { WIDEST = 256, OWNED = WIDEST / 32 };

struct Cache {
    Matrix keys;
    Matrix values;
    // Each token's sequence and its position in it.
    const unsigned* sequences;
    const unsigned* positions;
    i64 capacity;
};

struct AppendToCache {
    Matrix k;
    Matrix v;
    Cache cache;
};

KERNEL void append_to_cache(AppendToCache p) {
    i64 row = blockIdx.x, to = p.cache.sequences[row] * p.cache.capacity + p.cache.positions[row];
    for (int c = threadIdx.x; c < p.k.columns; c += blockDim.x) {
        put(p.cache.keys, to, c, get(p.k, row, c));
        put(p.cache.values, to, c, get(p.v, row, c));
    }
}
EXPORT(append_to_cache)

struct AttentionAny {
    Matrix q;
    Matrix out;
    // (N, H), not written where `data` is null.
    Matrix lse;
    // Of the training rows, or the cache.
    Cache cache;
    // (N): the first key each query sees, as index within its row of T or its sequence of the cache; null: 0.
    const unsigned* document_starts;
    // T in training; 0: the cache's sequences and positions.
    int length;
    int head_dim;
    int group;
    float scale;
};

// Σ over a head of two vectors, one of which is in shared memory.
template <int W>
__device__ __forceinline__ float dot(const float* a, const Matrix& b, i64 row, int column, int width) {
    float sum = 0.0f;
    for (int c = 0; c < width; c += W) {
        float x[W];
        read(b, row, column + c, x);
        for (int j = 0; j < W; j++) sum += a[c + j] * x[j];
    }
    return sum;
}

// Grid (N, H). The warps of a block share the keys and put their results together at the end.
template <int W>
__device__ __forceinline__ void attention_any_of(const AttentionAny& p) {
    __shared__ float query[WIDEST], parts[8][WIDEST], highests[8], sums[8];
    int d = p.head_dim, head = blockIdx.y, column = head / p.group * d;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    i64 row = blockIdx.x, first, last;
    if (p.length > 0) {
        first = row / p.length * p.length;
        last = row;
    } else {
        first = p.cache.sequences[row] * p.cache.capacity;
        last = first + p.cache.positions[row];
    }
    if (p.document_starts) first += p.document_starts[row];
    for (int c = threadIdx.x; c < d; c += blockDim.x) query[c] = get(p.q, row, head * d + c) * p.scale;
    __syncthreads();

    float out[OWNED], highest = LOWEST, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < OWNED; i++) out[i] = 0.0f;
    for (i64 at = first + warp * 32; at <= last; at += warps * 32) {
        bool there = at + lane <= last;
        float x = there ? dot<W>(query, p.cache.keys, at + lane, column, d) : LOWEST;
        float max = fmaxf(highest, max_of_warp(x)), shrink = expf(highest - max);
        float probability = expf(x - max);
        highest = max;
        sum = sum * shrink + sum_of_warp(probability);
#pragma unroll
        for (int i = 0; i < OWNED; i++) out[i] *= shrink;
        int keys = (int)min(last - at + 1, (i64)32);
        for (int j = 0; j < keys; j++) {
            float weight = __shfl_sync(0xffffffffu, probability, j);
#pragma unroll
            for (int i = 0; i < OWNED; i++) {
                int c = lane + 32 * i;
                if (c < d) out[i] += weight * get(p.cache.values, at + j, column + c);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < OWNED; i++) parts[warp][lane + 32 * i] = out[i];
    if (lane == 0) {
        highests[warp] = highest;
        sums[warp] = sum;
    }
    __syncthreads();
    float max = highests[0], total = 0.0f;
    for (int w = 1; w < warps; w++) max = fmaxf(max, highests[w]);
    for (int w = 0; w < warps; w++) total += sums[w] * expf(highests[w] - max);
    for (int c = threadIdx.x; c < d; c += blockDim.x) {
        float y = 0.0f;
        for (int w = 0; w < warps; w++) y += parts[w][c] * expf(highests[w] - max);
        put(p.out, row, head * d + c, y / total);
    }
    if (threadIdx.x == 0 && p.lse.data) put(p.lse, row, head, max + logf(total));
}

KERNEL __launch_bounds__(256) void attention_any_8(AttentionAny p) { attention_any_of<8>(p); }
EXPORT(attention_any_8)
KERNEL __launch_bounds__(256) void attention_any_1(AttentionAny p) { attention_any_of<1>(p); }
EXPORT(attention_any_1)

struct AttentionAnyBackward {
    AttentionAny forward;
    Matrix dout;
    Matrix dq;
    Matrix dk;
    Matrix dv;
    // (N, H): Σ dout ⊙ out.
    Matrix delta;
};

// A warp a query: grid (N, H). Writes delta too, which the keys' kernel reads.
template <int W>
__device__ __forceinline__ void attention_any_queries_of(const AttentionAnyBackward& b) {
    __shared__ float query[WIDEST], dout[WIDEST];
    const AttentionAny& p = b.forward;
    int d = p.head_dim, head = blockIdx.y, column = head / p.group * d, lane = threadIdx.x;
    i64 row = blockIdx.x, first = row / p.length * p.length + p.document_starts[row];
    float delta = 0.0f;
    for (int c = lane; c < d; c += 32) {
        query[c] = get(p.q, row, head * d + c) * p.scale;
        dout[c] = get(b.dout, row, head * d + c);
        delta += dout[c] * get(p.out, row, head * d + c);
    }
    __syncwarp();
    delta = sum_of_warp(delta);
    if (lane == 0) put(b.delta, row, head, delta);
    float lse = get(p.lse, row, head), dq[OWNED];
#pragma unroll
    for (int i = 0; i < OWNED; i++) dq[i] = 0.0f;
    for (i64 at = first; at <= row; at += 32) {
        float dx = 0.0f;
        if (at + lane <= row) {
            float probability = expf(dot<W>(query, p.cache.keys, at + lane, column, d) - lse);
            dx = probability * (dot<W>(dout, p.cache.values, at + lane, column, d) - delta) * p.scale;
        }
        int keys = (int)min(row - at + 1, (i64)32);
        for (int j = 0; j < keys; j++) {
            float weight = __shfl_sync(0xffffffffu, dx, j);
#pragma unroll
            for (int i = 0; i < OWNED; i++) {
                int c = lane + 32 * i;
                if (c < d) dq[i] += weight * get(p.cache.keys, at + j, column + c);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        int c = lane + 32 * i;
        if (c < d) put(b.dq, row, head * d + c, dq[i]);
    }
}

KERNEL void attention_any_queries_8(AttentionAnyBackward p) { attention_any_queries_of<8>(p); }
EXPORT(attention_any_queries_8)
KERNEL void attention_any_queries_1(AttentionAnyBackward p) { attention_any_queries_of<1>(p); }
EXPORT(attention_any_queries_1)

// A warp a key: grid (N, K).
template <int W>
__device__ __forceinline__ void attention_any_keys_of(const AttentionAnyBackward& b) {
    __shared__ float key[WIDEST], value[WIDEST];
    const AttentionAny& p = b.forward;
    int d = p.head_dim, kv_head = blockIdx.y, lane = threadIdx.x;
    i64 row = blockIdx.x, begin = row / p.length * p.length, end = begin + p.length;
    int position = (int)(row - begin);
    for (int c = lane; c < d; c += 32) {
        key[c] = get(p.cache.keys, row, kv_head * d + c) * p.scale;
        value[c] = get(p.cache.values, row, kv_head * d + c);
    }
    __syncwarp();
    float dk[OWNED], dv[OWNED];
#pragma unroll
    for (int i = 0; i < OWNED; i++) dk[i] = dv[i] = 0.0f;
    for (int head = kv_head * p.group; head < (kv_head + 1) * p.group; head++) {
        // Starts do not decrease: behind the first query that begins after this key nobody sees it.
        for (i64 at = row; at < end && (int)p.document_starts[at] <= position; at += 32) {
            i64 query = at + lane;
            float probability = 0.0f, dx = 0.0f;
            if (query < end && (int)p.document_starts[query] <= position) {
                probability = expf(dot<W>(key, p.q, query, head * d, d) - get(p.lse, query, head));
                dx = probability * (dot<W>(value, b.dout, query, head * d, d) - get(b.delta, query, head)) * p.scale;
            }
            int queries = (int)min(end - at, (i64)32);
            for (int j = 0; j < queries; j++) {
                float weight = __shfl_sync(0xffffffffu, probability, j), slope = __shfl_sync(0xffffffffu, dx, j);
#pragma unroll
                for (int i = 0; i < OWNED; i++) {
                    int c = head * d + lane + 32 * i;
                    if (lane + 32 * i >= d) continue;
                    dv[i] += weight * get(b.dout, at + j, c);
                    dk[i] += slope * get(p.q, at + j, c);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        int c = lane + 32 * i;
        if (c >= d) continue;
        put(b.dk, row, kv_head * d + c, dk[i]);
        put(b.dv, row, kv_head * d + c, dv[i]);
    }
}

KERNEL void attention_any_keys_8(AttentionAnyBackward p) { attention_any_keys_of<8>(p); }
EXPORT(attention_any_keys_8)
KERNEL void attention_any_keys_1(AttentionAnyBackward p) { attention_any_keys_of<1>(p); }
EXPORT(attention_any_keys_1)
