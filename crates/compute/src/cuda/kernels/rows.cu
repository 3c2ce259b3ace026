// Kernels that are bound by memory: copies, norms, rotations, activations, embeddings. Each has two forms,
// eight elements at a time for matrices that allow it, and one at a time for all others; the host chooses.
// Sums over rows are taken in two passes of a fixed order, never by atomic additions, so that bits do not
// change from run to run.

struct Fill {
    Matrix x;
    float value;
};

KERNEL void fill(Fill p) {
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < (i64)p.x.rows * p.x.columns; i += (i64)gridDim.x * blockDim.x)
        put(p.x, i / p.x.columns, i % p.x.columns, p.value);
}
EXPORT(fill)

struct Pair {
    Matrix from;
    Matrix to;
};

// A thread's place in a matrix whose elements are taken W at a time.
template <int W>
struct Places {
    i64 at, end, step;
    unsigned columns;
    __device__ Places(const Matrix& m)
        : at((i64)blockIdx.x * blockDim.x + threadIdx.x), end((i64)m.rows * m.columns / W), step((i64)gridDim.x * blockDim.x),
          columns(m.columns / W) {}
    __device__ bool more() const { return at < end; }
    __device__ void next() { at += step; }
    // Dividing 64 bits takes several times as long as 32.
    __device__ i64 row() const { return end >> 32 ? at / columns : (unsigned)at / columns; }
    __device__ int column() const { return (int)(at - row() * columns) * W; }
};

template <int W>
__device__ __forceinline__ void copy_of(const Pair& p) {
    for (Places<W> i(p.from); i.more(); i.next()) {
        float x[W];
        read(p.from, i.row(), i.column(), x);
        write(p.to, i.row(), i.column(), x);
    }
}

KERNEL void copy_8(Pair p) { copy_of<8>(p); }
EXPORT(copy_8)
KERNEL void copy_1(Pair p) { copy_of<1>(p); }
EXPORT(copy_1)

// to += from
template <int W>
__device__ __forceinline__ void add_of(const Pair& p) {
    for (Places<W> i(p.from); i.more(); i.next()) {
        float x[W], y[W];
        read(p.to, i.row(), i.column(), x);
        read(p.from, i.row(), i.column(), y);
        for (int j = 0; j < W; j++) x[j] += y[j];
        write(p.to, i.row(), i.column(), x);
    }
}

KERNEL void add_8(Pair p) { add_of<8>(p); }
EXPORT(add_8)
KERNEL void add_1(Pair p) { add_of<1>(p); }
EXPORT(add_1)

// Every row of `to` += the one row of `from`.
KERNEL void add_bias(Pair p) {
    for (Places<1> i(p.to); i.more(); i.next()) put(p.to, i.row(), i.column(), get(p.to, i.row(), i.column()) + get(p.from, 0, i.column()));
}
EXPORT(add_bias)

// Every row of `to` *= the one row of `from`.
KERNEL void scale_columns(Pair p) {
    for (Places<1> i(p.to); i.more(); i.next()) put(p.to, i.row(), i.column(), get(p.to, i.row(), i.column()) * get(p.from, 0, i.column()));
}
EXPORT(scale_columns)

__device__ __forceinline__ u64 mix(u64 z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

struct Dropout {
    Matrix x;
    u64 seed;
    // The least 24-bit number that keeps an element, and 1/(1−p).
    float threshold;
    float scale;
};

// The mask is compute::reference::dropout_keeps.
KERNEL void dropout(Dropout p) {
    for (Places<1> i(p.x); i.more(); i.next()) {
        u64 bits = mix(p.seed ^ ((u64)i.at * 0x9E3779B97F4A7C15ull)) >> 40;
        float x = get(p.x, i.row(), i.column());
        put(p.x, i.row(), i.column(), (float)bits >= p.threshold ? x * p.scale : 0.0f);
    }
}
EXPORT(dropout)

struct RmsNorm {
    Matrix x;
    Matrix weight;
    Matrix rstd;
    Matrix out;
    float eps;
    int groups;
};

// One warp a group of `weight.columns` elements.
template <int W>
__device__ __forceinline__ void rmsnorm_of(const RmsNorm& p) {
    i64 item = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (item >= (i64)p.x.rows * p.groups) return;
    int width = p.weight.columns, lane = threadIdx.x % 32;
    i64 row = item / p.groups;
    int group = item % p.groups, first = group * width;
    float sum = 0.0f;
    for (int c = lane * W; c < width; c += 32 * W) {
        float x[W];
        read(p.x, row, first + c, x);
        for (int j = 0; j < W; j++) sum += x[j] * x[j];
    }
    float rstd = rsqrtf(sum_of_warp(sum) / width + p.eps);
    if (lane == 0) put(p.rstd, row, group, rstd);
    for (int c = lane * W; c < width; c += 32 * W) {
        float x[W], w[W];
        read(p.x, row, first + c, x);
        read(p.weight, 0, c, w);
        for (int j = 0; j < W; j++) x[j] *= rstd * w[j];
        write(p.out, row, first + c, x);
    }
}

KERNEL void rmsnorm_8(RmsNorm p) { rmsnorm_of<8>(p); }
EXPORT(rmsnorm_8)
KERNEL void rmsnorm_1(RmsNorm p) { rmsnorm_of<1>(p); }
EXPORT(rmsnorm_1)

struct RmsNormBackward {
    Matrix x;
    Matrix weight;
    Matrix rstd;
    Matrix dout;
    Matrix dx;
    // (blocks, width) of f32: each block's part of the weight's gradient.
    Matrix partial;
    int groups;
    int overwrite;
};

// With x̂ = x·rstd: dx = rstd·(w·dy − x̂·mean(w·dy·x̂)). A block goes through its share of the groups one by
// one; a thread owns the same columns of each, so that it can keep their part of the weight's gradient in
// registers.
template <int W, int OWNED>
__device__ __forceinline__ void rmsnorm_backward_of(const RmsNormBackward& p) {
    __shared__ float room[32];
    float part[OWNED][W];
    for (int i = 0; i < OWNED; i++)
        for (int j = 0; j < W; j++) part[i][j] = 0.0f;
    int width = p.weight.columns, stride = blockDim.x * W;
    for (i64 item = blockIdx.x; item < (i64)p.x.rows * p.groups; item += gridDim.x) {
        i64 row = item / p.groups;
        int group = item % p.groups, first = group * width;
        float rstd = get(p.rstd, row, group);
        float wdy[OWNED][W], normed[OWNED][W];
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < OWNED; i++) {
            int c = threadIdx.x * W + i * stride;
            if (c >= width) continue;
            float w[W], dy[W];
            read(p.x, row, first + c, normed[i]);
            read(p.weight, 0, c, w);
            read(p.dout, row, first + c, dy);
            for (int j = 0; j < W; j++) {
                normed[i][j] *= rstd;
                wdy[i][j] = w[j] * dy[j];
                sum += wdy[i][j] * normed[i][j];
                part[i][j] += dy[j] * normed[i][j];
            }
        }
        float mean = sum_of_block(sum, room) / width;
#pragma unroll
        for (int i = 0; i < OWNED; i++) {
            int c = threadIdx.x * W + i * stride;
            if (c >= width) continue;
            float dx[W];
            for (int j = 0; j < W; j++) dx[j] = 0.0f;
            if (!p.overwrite) read(p.dx, row, first + c, dx);
            for (int j = 0; j < W; j++) dx[j] += rstd * (wdy[i][j] - normed[i][j] * mean);
            write(p.dx, row, first + c, dx);
        }
    }
#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        int c = threadIdx.x * W + i * stride;
        if (c < width) write(p.partial, blockIdx.x, c, part[i]);
    }
}

KERNEL __launch_bounds__(512) void rmsnorm_backward_8(RmsNormBackward p) { rmsnorm_backward_of<8, 2>(p); }
EXPORT(rmsnorm_backward_8)
KERNEL __launch_bounds__(512) void rmsnorm_backward_1(RmsNormBackward p) { rmsnorm_backward_of<1, 8>(p); }
EXPORT(rmsnorm_backward_1)

// Column sums of a share of the rows, to a row of `to` a block in y. Blocks of 32 × 8 threads.
KERNEL void column_sums(Pair p) {
    __shared__ float room[8][32];
    int column = blockIdx.x * 32 + threadIdx.x;
    float sum = 0.0f;
    if (column < p.from.columns)
        for (i64 row = (i64)blockIdx.y * 8 + threadIdx.y; row < p.from.rows; row += (i64)gridDim.y * 8) sum += get(p.from, row, column);
    room[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= p.from.columns) return;
    for (int i = 1; i < 8; i++) sum += room[i][threadIdx.x];
    put(p.to, blockIdx.y, column, sum);
}
EXPORT(column_sums)

struct ColumnDots {
    Matrix x;
    Matrix y;
    // (1, columns).
    Matrix scale;
    // (parts, columns).
    Matrix to;
};

// Row `blockIdx.y` of `to` = scale · the column sums of x · y over every gridDim.y-th block of rows.
KERNEL void column_dots(ColumnDots p) {
    __shared__ float room[8][32];
    int column = blockIdx.x * 32 + threadIdx.x;
    float sum = 0.0f;
    if (column < p.x.columns)
        for (i64 row = (i64)blockIdx.y * 8 + threadIdx.y; row < p.x.rows; row += (i64)gridDim.y * 8) sum += get(p.x, row, column) * get(p.y, row, column);
    room[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= p.x.columns) return;
    for (int i = 1; i < 8; i++) sum += room[i][threadIdx.x];
    put(p.to, blockIdx.y, column, sum * get(p.scale, 0, column));
}
EXPORT(column_dots)

// The one row of `to` += the column sums of `from`. Blocks of 32 × 8 threads.
KERNEL void add_column_sums(Pair p) {
    __shared__ float room[8][32];
    int column = blockIdx.x * 32 + threadIdx.x;
    float sum = 0.0f;
    if (column < p.from.columns)
        for (i64 row = threadIdx.y; row < p.from.rows; row += 8) sum += get(p.from, row, column);
    room[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= p.from.columns) return;
    for (int i = 1; i < 8; i++) sum += room[i][threadIdx.x];
    put(p.to, 0, column, get(p.to, 0, column) + sum);
}
EXPORT(add_column_sums)

struct Rope {
    Matrix x;
    Matrix cos;
    Matrix sin;
    const unsigned* positions;
    // −1 rotates back.
    float sign;
    int half;
};

// The first and second halves of each head are the real and imaginary parts.
template <int W>
__device__ __forceinline__ void rope_of(const Rope& p) {
    int pairs = p.x.columns / 2 / W;
    i64 count = (i64)p.x.rows * pairs;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x) {
        i64 row = i / pairs;
        int pair = (int)(i % pairs) * W, c = pair % p.half, at = pair / p.half * 2 * p.half + c;
        unsigned position = p.positions[row];
        float a[W], b[W], cos[W], sin[W], real[W], imaginary[W];
        read(p.x, row, at, a);
        read(p.x, row, at + p.half, b);
        read(p.cos, position, c, cos);
        read(p.sin, position, c, sin);
        for (int j = 0; j < W; j++) {
            float s = sin[j] * p.sign;
            real[j] = a[j] * cos[j] - b[j] * s;
            imaginary[j] = b[j] * cos[j] + a[j] * s;
        }
        write(p.x, row, at, real);
        write(p.x, row, at + p.half, imaginary);
    }
}

KERNEL void rope_8(Rope p) { rope_of<8>(p); }
EXPORT(rope_8)
KERNEL void rope_1(Rope p) { rope_of<1>(p); }
EXPORT(rope_1)

struct Swiglu {
    Matrix gate_up;
    Matrix dout;
    Matrix out;
};

// out = silu(gate) ⊙ up
template <int W>
__device__ __forceinline__ void swiglu_of(const Swiglu& p) {
    for (Places<W> i(p.out); i.more(); i.next()) {
        float gate[W], up[W];
        read(p.gate_up, i.row(), i.column(), gate);
        read(p.gate_up, i.row(), p.out.columns + i.column(), up);
        for (int j = 0; j < W; j++) up[j] *= gate[j] / (1.0f + __expf(-gate[j]));
        write(p.out, i.row(), i.column(), up);
    }
}

KERNEL void swiglu_8(Swiglu p) { swiglu_of<8>(p); }
EXPORT(swiglu_8)
KERNEL void swiglu_1(Swiglu p) { swiglu_of<1>(p); }
EXPORT(swiglu_1)

// gate_up becomes its gradient; `out` is written as by the forward.
template <int W>
__device__ __forceinline__ void swiglu_backward_of(const Swiglu& p) {
    int f = p.out.columns;
    for (Places<W> i(p.out); i.more(); i.next()) {
        float gate[W], up[W], dout[W], out[W];
        read(p.gate_up, i.row(), i.column(), gate);
        read(p.gate_up, i.row(), f + i.column(), up);
        read(p.dout, i.row(), i.column(), dout);
        for (int j = 0; j < W; j++) {
            float sigmoid = 1.0f / (1.0f + __expf(-gate[j])), silu = gate[j] * sigmoid;
            out[j] = silu * up[j];
            gate[j] = dout[j] * up[j] * (sigmoid + silu * (1.0f - sigmoid));
            up[j] = dout[j] * silu;
        }
        write(p.out, i.row(), i.column(), out);
        write(p.gate_up, i.row(), i.column(), gate);
        write(p.gate_up, i.row(), f + i.column(), up);
    }
}

KERNEL void swiglu_backward_8(Swiglu p) { swiglu_backward_of<8>(p); }
EXPORT(swiglu_backward_8)
KERNEL void swiglu_backward_1(Swiglu p) { swiglu_backward_of<1>(p); }
EXPORT(swiglu_backward_1)
