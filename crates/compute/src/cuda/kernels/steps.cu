// The loss, the optimizer, and products of a few rows.

struct CrossEntropy {
    // (rows, V); becomes its gradient.
    Matrix logits;
    const unsigned* targets;
    const float* weights;
    // (rows): weight · loss.
    double* losses;
    float scale;
    int backward;
};

// A block a row: maximum and sum in one pass, the gradient in a second.
template <int W>
__device__ __forceinline__ void cross_entropy_of(const CrossEntropy& p) {
    __shared__ float room[32];
    i64 row = blockIdx.x;
    float max = LOWEST, sum = 0.0f;
    for (int c = threadIdx.x * W; c < p.logits.columns; c += blockDim.x * W) {
        float x[W], highest = max;
        read(p.logits, row, c, x);
        for (int j = 0; j < W; j++) highest = fmaxf(highest, x[j]);
        // Nothing but −∞ so far: the sum stays what it is.
        if (highest > max) sum *= __expf(max - highest);
        max = highest;
        for (int j = 0; j < W; j++) sum += __expf(x[j] - max);
    }
    float highest = max_of_block(max, room);
    // A thread without a column has summed nothing; one that saw no number keeps it.
    sum = sum_of_block(sum == 0.0f ? 0.0f : sum * __expf(max - highest), room);
    unsigned target = p.targets[row];
    float weight = p.weights[row];
    if (threadIdx.x == 0) p.losses[row] = (double)weight * ((double)highest + log((double)sum) - (double)get(p.logits, row, target));
    if (!p.backward) return;
    // Nobody may overwrite the target's logit before it was read.
    __syncthreads();
    float scale = weight * p.scale, inverse = 1.0f / sum;
    for (int c = threadIdx.x * W; c < p.logits.columns; c += blockDim.x * W) {
        float x[W];
        read(p.logits, row, c, x);
        for (int j = 0; j < W; j++) x[j] = scale * (__expf(x[j] - highest) * inverse - ((unsigned)(c + j) == target ? 1.0f : 0.0f));
        write(p.logits, row, c, x);
    }
}

KERNEL __launch_bounds__(1024) void cross_entropy_8(CrossEntropy p) { cross_entropy_of<8>(p); }
EXPORT(cross_entropy_8)
KERNEL __launch_bounds__(1024) void cross_entropy_1(CrossEntropy p) { cross_entropy_of<1>(p); }
EXPORT(cross_entropy_1)

struct Sum {
    const double* parts;
    double* out;
    int count;
    // Add to what `out` holds.
    int accumulate;
};

// In one block, each thread its own share, the shares in the order of threads.
KERNEL void sum_parts(Sum p) {
    __shared__ double room[32];
    double sum = 0.0;
    for (int i = threadIdx.x; i < p.count; i += blockDim.x) sum += p.parts[i];
    sum = sum_of_block(sum, room);
    if (threadIdx.x == 0) *p.out = p.accumulate ? *p.out + sum : sum;
}
EXPORT(sum_parts)

// How many elements can be read four at a time: none of a part of a matrix that begins in the middle of four.
__device__ __forceinline__ i64 in_quads(i64 count, const void* a, const void* b = nullptr, const void* c = nullptr) {
    return (((u64)a | (u64)b | (u64)c) & 15) ? 0 : count / 4;
}

struct SquaredNorm {
    const float* x;
    // One a block.
    double* parts;
    i64 count;
};

KERNEL void squared_norm(SquaredNorm p) {
    __shared__ double room[32];
    double sum = 0.0;
    i64 quads = in_quads(p.count, p.x), thread = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
    for (i64 i = thread; i < quads; i += step) {
        float4 x = ((const float4*)p.x)[i];
        sum += (double)(x.x * x.x + x.y * x.y) + (double)(x.z * x.z + x.w * x.w);
    }
    for (i64 i = quads * 4 + thread; i < p.count; i += step) sum += (double)p.x[i] * (double)p.x[i];
    sum = sum_of_block(sum, room);
    if (threadIdx.x == 0) p.parts[blockIdx.x] = sum;
}
EXPORT(squared_norm)

// What gradients are multiplied by. False where their norm is not finite: nothing may change then.
__device__ __forceinline__ bool clips(const double* squared_norm, float limit, float& clip) {
    double squared = *squared_norm;
    clip = limit > 0.0f ? fminf(limit / ((float)sqrt(squared) + 1e-6f), 1.0f) : 1.0f;
    return squared - squared == 0.0;
}

struct AdamW {
    float* weight;
    // The weights as products read them, or null.
    bf16* rounded;
    const float* gradient;
    float* moment1;
    float* moment2;
    const double* squared_norm;
    i64 count;
    float max_gradient_norm;
    float beta1;
    float one_minus_beta1;
    float beta2;
    float one_minus_beta2;
    float epsilon;
    // 1 − learning rate · decay
    float decay;
    // learning rate / (1 − β₁ᵗ)
    float rate;
    // 1 / √(1 − β₂ᵗ)
    float correction2;
    int unused;
};

KERNEL void adamw(AdamW p) {
    float clip;
    if (!clips(p.squared_norm, p.max_gradient_norm, clip)) return;
    auto update = [&](float& w, float& m, float& v, float g) {
        g *= clip;
        m = p.beta1 * m + p.one_minus_beta1 * g;
        v = p.beta2 * v + p.one_minus_beta2 * g * g;
        w = w * p.decay - p.rate * m / (sqrtf(v) * p.correction2 + p.epsilon);
    };
    i64 quads = p.count / 4, thread = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
    for (i64 i = thread; i < quads; i += step) {
        float4 w = ((float4*)p.weight)[i], m = ((float4*)p.moment1)[i], v = ((float4*)p.moment2)[i], g = ((const float4*)p.gradient)[i];
        update(w.x, m.x, v.x, g.x);
        update(w.y, m.y, v.y, g.y);
        update(w.z, m.z, v.z, g.z);
        update(w.w, m.w, v.w, g.w);
        ((float4*)p.weight)[i] = w;
        ((float4*)p.moment1)[i] = m;
        ((float4*)p.moment2)[i] = v;
        if (p.rounded) ((uint2*)p.rounded)[i] = make_uint2(pack_bf16(w.x, w.y), pack_bf16(w.z, w.w));
    }
    for (i64 i = quads * 4 + thread; i < p.count; i += step) {
        update(p.weight[i], p.moment1[i], p.moment2[i], p.gradient[i]);
        if (p.rounded) p.rounded[i] = narrow(p.weight[i]);
    }
}
EXPORT(adamw)

struct Momentum {
    float* gradient;
    float* moment;
    const double* squared_norm;
    i64 count;
    float max_gradient_norm;
    float beta;
};

KERNEL void momentum(Momentum p) {
    float clip;
    if (!clips(p.squared_norm, p.max_gradient_norm, clip)) return;
    auto update = [&](float& g, float& m) {
        g *= clip;
        m = p.beta * m + (1.0f - p.beta) * g;
        g = p.beta * m + (1.0f - p.beta) * g;
    };
    i64 quads = in_quads(p.count, p.gradient, p.moment);
    i64 thread = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
    for (i64 i = thread; i < quads; i += step) {
        float4 g = ((float4*)p.gradient)[i], m = ((float4*)p.moment)[i];
        update(g.x, m.x);
        update(g.y, m.y);
        update(g.z, m.z);
        update(g.w, m.w);
        ((float4*)p.gradient)[i] = g;
        ((float4*)p.moment)[i] = m;
    }
    for (i64 i = quads * 4 + thread; i < p.count; i += step) update(p.gradient[i], p.moment[i]);
}
EXPORT(momentum)

// Contiguous elements of either type.
struct Vector {
    char* data;
    int dtype;
    int unused;
};

__device__ __forceinline__ float4 quad(const Vector& v, i64 i) {
    if (v.dtype != BF16) return ((const float4*)v.data)[i];
    uint2 packed = ((const uint2*)v.data)[i];
    float4 x;
    widen_pair(packed.x, x.x, x.y);
    widen_pair(packed.y, x.z, x.w);
    return x;
}

__device__ __forceinline__ void put_quad(const Vector& v, i64 i, float4 x) {
    if (v.dtype == BF16) {
        ((uint2*)v.data)[i] = make_uint2(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w));
    } else {
        ((float4*)v.data)[i] = x;
    }
}

__device__ __forceinline__ float one(const Vector& v, i64 i) {
    return v.dtype == BF16 ? widen(((const bf16*)v.data)[i]) : ((const float*)v.data)[i];
}

__device__ __forceinline__ void put_one(const Vector& v, i64 i, float x) {
    if (v.dtype == BF16) {
        ((bf16*)v.data)[i] = narrow(x);
    } else {
        ((float*)v.data)[i] = x;
    }
}

struct ScaleByFrobeniusNorm {
    Vector x;
    Vector out;
    const double* squared_norm;
    i64 count;
};

KERNEL void scale_by_frobenius_norm(ScaleByFrobeniusNorm p) {
    float scale = (float)(1.0 / (1.02 * sqrt(*p.squared_norm) + 1e-6));
    i64 quads = in_quads(p.count, p.x.data, p.out.data);
    i64 thread = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
    for (i64 i = thread; i < quads; i += step) {
        float4 x = quad(p.x, i);
        put_quad(p.out, i, make_float4(x.x * scale, x.y * scale, x.z * scale, x.w * scale));
    }
    for (i64 i = quads * 4 + thread; i < p.count; i += step) put_one(p.out, i, one(p.x, i) * scale);
}
EXPORT(scale_by_frobenius_norm)

struct Axpby {
    Vector x;
    Vector y;
    Vector out;
    i64 count;
    float a;
    float b;
};

KERNEL void axpby(Axpby p) {
    i64 quads = in_quads(p.count, p.x.data, p.y.data, p.out.data);
    i64 thread = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
    for (i64 i = thread; i < quads; i += step) {
        float4 x = quad(p.x, i), y = quad(p.y, i);
        put_quad(p.out, i, make_float4(p.a * x.x + p.b * y.x, p.a * x.y + p.b * y.y, p.a * x.z + p.b * y.z, p.a * x.w + p.b * y.w));
    }
    for (i64 i = quads * 4 + thread; i < p.count; i += step) put_one(p.out, i, p.a * one(p.x, i) + p.b * one(p.y, i));
}
EXPORT(axpby)

struct SgdStep {
    float* weight;
    // The weights as products read them, or null.
    bf16* rounded;
    Vector direction;
    const double* squared_norm;
    i64 count;
    float step;
    // 1 − decay
    float keep;
};

KERNEL void sgd_step(SgdStep p) {
    double squared_norm = *p.squared_norm;
    // Not finite: nothing is changed.
    if (!(squared_norm - squared_norm == 0.0)) return;
    i64 quads = in_quads(p.count, p.weight, p.rounded, p.direction.data);
    i64 thread = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
    for (i64 i = thread; i < quads; i += step) {
        float4 w = ((float4*)p.weight)[i], d = quad(p.direction, i);
        w = make_float4(w.x * p.keep - p.step * d.x, w.y * p.keep - p.step * d.y, w.z * p.keep - p.step * d.z, w.w * p.keep - p.step * d.w);
        ((float4*)p.weight)[i] = w;
        if (p.rounded) ((uint2*)p.rounded)[i] = make_uint2(pack_bf16(w.x, w.y), pack_bf16(w.z, w.w));
    }
    for (i64 i = quads * 4 + thread; i < p.count; i += step) {
        float w = p.weight[i] * p.keep - p.step * one(p.direction, i);
        p.weight[i] = w;
        if (p.rounded) p.rounded[i] = narrow(w);
    }
}
EXPORT(sgd_step)

struct FewRows {
    // (m, k), m up to 8.
    Matrix x;
    // (n, k) of any type.
    Matrix weight;
    Matrix out;
    // (m, n), added where `data` is not null.
    Matrix residual;
};

// Decoding is bound by reading weights: a warp reads a row of them once, for all rows of x.
template <int W>
__device__ __forceinline__ void few_rows_of(const FewRows& p) {
    int column = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (column >= p.weight.rows) return;
    float sum[8];
    for (int r = 0; r < 8; r++) sum[r] = 0.0f;
    for (int c = lane * W; c < p.weight.columns; c += 32 * W) {
        float w[W];
        read(p.weight, column, c, w);
#pragma unroll
        for (int r = 0; r < 8; r++) {
            if (r >= p.x.rows) break;
            float x[W];
            read(p.x, r, c, x);
            for (int j = 0; j < W; j++) sum[r] += w[j] * x[j];
        }
    }
#pragma unroll
    for (int r = 0; r < 8; r++) {
        if (r >= p.x.rows) break;
        float total = sum_of_warp(sum[r]);
        if (lane == 0) put(p.out, r, column, total + (p.residual.data ? get(p.residual, r, column) : 0.0f));
    }
}

KERNEL void few_rows_8(FewRows p) { few_rows_of<8>(p); }
EXPORT(few_rows_8)
KERNEL void few_rows_1(FewRows p) { few_rows_of<1>(p); }
EXPORT(few_rows_1)
