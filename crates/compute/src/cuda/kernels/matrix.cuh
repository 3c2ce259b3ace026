// A matrix of any type in the arena, as kernels take it, and reading and writing it one or eight elements at a time.
// Which type it is has been settled for all threads of a launch, so asking costs nothing beside memory.

typedef unsigned long long u64;
typedef long long i64;

// −∞
#define LOWEST __uint_as_float(0xff800000u)

enum { F32 = 0, BF16 = 1, Q8_0 = 2, Q4_0 = 3, NF4 = 4 };

struct Matrix {
    char* data;
    // Elements from one row's start to the next.
    i64 stride;
    int rows;
    int columns;
    int dtype;
    // Makes the size a multiple of its alignment.
    int unused;
};

// A positive or negative IEEE half, neither infinite nor NaN: the scale of a block.
__device__ __forceinline__ float widen_half(unsigned bits) {
    float x = __uint_as_float((bits & 0x7fffu) << 13) * 5.192296858534828e33f;  // 2^112: the difference of the exponents' biases
    return bits & 0x8000u ? -x : x;
}

// What NF4's quants stand for: quant::nf4.
__constant__ float LEVELS[16] = {
    -1.0f, -0.6961928f, -0.52507305f, -0.3949175f, -0.28444138f, -0.18477343f, -0.091050036f, 0.0f,
    0.0795803f, 0.1609302f, 0.2461123f, 0.33791524f, 0.44070983f, 0.562617f, 0.72295684f, 1.0f};

// The 32 elements that share a scale. The `quant` crate has their form.
struct Block {
    const unsigned char* quants;
    float scale;
    bool halves;

    __device__ Block(const Matrix& m, i64 row, int column) : halves(m.dtype == Q4_0) {
        const unsigned char* at = (const unsigned char*)m.data + (row * m.stride + column) / 32 * (halves ? 18 : 34);
        scale = widen_half(at[0] | (unsigned)at[1] << 8);
        quants = at + 2;
    }
    __device__ float element(int i) const {
        if (!halves) return scale * (signed char)quants[i];
        int byte = quants[i % 16];
        return scale * ((i < 16 ? byte & 15 : byte >> 4) - 8);
    }
};

// Neighbors within half a block of 64 of NF4, which copies read, eight at a time.
template <int W>
__device__ __forceinline__ void read_nf4(const Matrix& m, i64 row, int column, float (&x)[W]) {
    const unsigned char* at = (const unsigned char*)m.data + (row * m.stride + column) / 64 * 34;
    float scale = widen_half(at[0] | (unsigned)at[1] << 8);
    const unsigned char* quants = at + 2 + column % 32;
    int shift = column % 64 < 32 ? 0 : 4;
    for (int j = 0; j < W; j++) x[j] = scale * LEVELS[quants[j] >> shift & 15];
}

__device__ __forceinline__ float get(const Matrix& m, i64 row, int column) {
    i64 at = row * m.stride + column;
    if (m.dtype > BF16) return Block(m, row, column).element(column % 32);
    return m.dtype == BF16 ? widen(((const bf16*)m.data)[at]) : ((const float*)m.data)[at];
}

__device__ __forceinline__ void put(const Matrix& m, i64 row, int column, float value) {
    i64 at = row * m.stride + column;
    if (m.dtype == BF16) {
        ((bf16*)m.data)[at] = narrow(value);
    } else {
        ((float*)m.data)[at] = value;
    }
}

__device__ __forceinline__ void widen_pair(unsigned packed, float& low, float& high) {
    low = __uint_as_float(packed << 16);
    high = __uint_as_float(packed & 0xffff0000u);
}

// W elements from `column` on. Eight only where the host has seen that all rows lie so that they can be read at once.
template <int W>
__device__ __forceinline__ void read(const Matrix& m, i64 row, int column, float (&x)[W]) {
    if (W == 1) {
        x[0] = get(m, row, column);
        return;
    }
    if (m.dtype == NF4) return read_nf4(m, row, column, x);
    if (m.dtype > BF16) {
        Block block(m, row, column);
        for (int j = 0; j < W; j++) x[j] = block.element(column % 32 + j);
        return;
    }
    const char* at = m.data + (row * m.stride + column) * (m.dtype == BF16 ? 2 : 4);
    if (m.dtype == BF16) {
        uint4 packed = *(const uint4*)at;
        widen_pair(packed.x, x[0], x[1 % W]);
        widen_pair(packed.y, x[2 % W], x[3 % W]);
        widen_pair(packed.z, x[4 % W], x[5 % W]);
        widen_pair(packed.w, x[6 % W], x[7 % W]);
    } else {
        float4 a = ((const float4*)at)[0], b = ((const float4*)at)[1];
        x[0] = a.x, x[1 % W] = a.y, x[2 % W] = a.z, x[3 % W] = a.w;
        x[4 % W] = b.x, x[5 % W] = b.y, x[6 % W] = b.z, x[7 % W] = b.w;
    }
}

template <int W>
__device__ __forceinline__ void write(const Matrix& m, i64 row, int column, const float (&x)[W]) {
    if (W == 1) {
        put(m, row, column, x[0]);
        return;
    }
    char* at = m.data + (row * m.stride + column) * (m.dtype == BF16 ? 2 : 4);
    if (m.dtype == BF16) {
        *(uint4*)at = make_uint4(pack_bf16(x[0], x[1 % W]), pack_bf16(x[2 % W], x[3 % W]), pack_bf16(x[4 % W], x[5 % W]),
                                 pack_bf16(x[6 % W], x[7 % W]));
    } else {
        ((float4*)at)[0] = make_float4(x[0], x[1 % W], x[2 % W], x[3 % W]);
        ((float4*)at)[1] = make_float4(x[4 % W], x[5 % W], x[6 % W], x[7 % W]);
    }
}

// Σ over the lanes of a warp; every lane gets it, and always the same bits.
__device__ __forceinline__ float sum_of_warp(float x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

__device__ __forceinline__ double sum_of_warp(double x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

__device__ __forceinline__ float max_of_warp(float x) {
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

// Σ over a block of up to 32 warps. All threads take part, and `room` is free again when it returns.
template <typename T>
__device__ __forceinline__ T sum_of_block(T x, T* room) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = sum_of_warp(x);
    if (warps == 1) return x;
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = sum_of_warp(lane < warps ? room[lane] : (T)0);
    __syncthreads();
    return x;
}

__device__ __forceinline__ float max_of_block(float x, float* room) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = max_of_warp(x);
    if (warps == 1) return x;
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = max_of_warp(lane < warps ? room[lane] : x);
    __syncthreads();
    return x;
}
