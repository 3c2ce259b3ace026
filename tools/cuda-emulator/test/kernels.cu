#ifndef EMULATED
#error "these kernels are for the emulator's own test"
#endif
// Kernels that use each thing the emulated machine offers, and some that are wrong on purpose.

KERNEL void add(const float* a, const float* b, float* sum, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sum[i] = a[i] + b[i];
}
EXPORT(add)

KERNEL void scale(float* x, int n, float factor) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= factor;
}
EXPORT(scale)

template <int Threads> __device__ __forceinline__ float block_sum(float x) {
    alignas(16) __shared__ float warps[Threads / 32];
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffff, x, offset);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
    __syncthreads();
    x = threadIdx.x < Threads / 32 ? warps[threadIdx.x] : 0;
    if (threadIdx.x < 32)
        for (int offset = 16; offset > 0; offset /= 2) x += __shfl_down_sync(0xffffffff, x, offset);
    return x;
}

// One row a block; the last block that ends adds the rows' sums.
KERNEL void __launch_bounds__(256) sum_rows(const float* x, int columns, float* sums, float* total, unsigned* done) {
    __shared__ bool last;
    float sum = 0;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += x[(size_t)blockIdx.x * columns + i];
    sum = block_sum<256>(sum);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(done, 1u) == gridDim.x - 1;
        atomicAdd(total, sum);
    }
    __syncthreads();
    if (last && threadIdx.x == 0)
        for (int row = 0; row < (int)gridDim.x; row++) total[1] += sums[row];
}
EXPORT(sum_rows)

// Without the barrier that block_sum has: right only in the order of threads.
KERNEL void missing_barrier(float* out) {
    __shared__ float values[64];
    values[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = threadIdx.x < 63 ? values[63 - threadIdx.x] : 0;
}
EXPORT(missing_barrier)

// d (16x8, f32) = a (16x16) b (16x8); b is given as rows of k when `transposed`, else as rows of n.
KERNEL void product(const bf16* a, const bf16* b, float* d, int transposed) {
    DYNAMIC_SHARED(memory);
    bf16* a_tile = (bf16*)memory;
    bf16* b_tile = a_tile + 256;
    const int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) a_tile[i] = a[i];
    for (int i = lane; i < 128; i += 32) b_tile[i] = b[i];
    __syncwarp();
    unsigned a_registers[4], b_registers[2];
    load_matrix_x4(a_registers, a_tile + (lane % 16) * 16 + lane / 16 * 8);
    if (transposed) load_matrix_x2_transposed(b_registers, b_tile + (lane % 16) * 8);
    else load_matrix_x2(b_registers, b_tile + (lane % 8) * 16 + lane / 8 % 2 * 8);
    float sums[4] = {};
    mma_m16n8k16(sums, a_registers, b_registers);
    for (int i = 0; i < 4; i++) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}
EXPORT(product)

// The registers of load_matrix_x4_transposed of four 8x8 matrices.
KERNEL void transpose(const bf16* in, unsigned* out) {
    __shared__ alignas(16) bf16 tile[256];
    for (int i = threadIdx.x; i < 256; i += 32) tile[i] = in[i];
    __syncwarp();
    unsigned registers[4];
    load_matrix_x4_transposed(registers, tile + threadIdx.x * 8);
    for (int i = 0; i < 4; i++) out[i * 32 + threadIdx.x] = registers[i];
}
EXPORT(transpose)

// Doubles x through a pipeline of two tiles. `early` is a mistake: it waits for one group too few.
KERNEL void pipeline(const float* x, float* out, int n, int early) {
    DYNAMIC_SHARED(memory);
    float* tiles = (float*)memory; // two of 4 * 32
    const auto fetch = [&](int tile) {
        const int at = (tile * 32 + (int)threadIdx.x) * 4;
        copy_async_16(tiles + tile % 2 * 128 + threadIdx.x * 4, x + (at < n ? at : 0), at < n);
        copy_async_commit();
    };
    const int count = (n + 127) / 128;
    fetch(0);
    for (int tile = 0; tile < count; tile++) {
        if (tile + 1 < count) fetch(tile + 1);
        else copy_async_commit();
        if (early) copy_async_wait<2>();
        else copy_async_wait<1>();
        __syncthreads();
        for (int i = threadIdx.x; i < 128; i += 32)
            if (tile * 128 + i < n) out[tile * 128 + i] = 2 * tiles[tile % 2 * 128 + i];
        __syncthreads();
    }
}
EXPORT(pipeline)

KERNEL void votes(unsigned* out) {
    const int lane = threadIdx.x % 32;
    unsigned result[8];
    result[0] = __ballot_sync(0xffffffff, lane % 3 == 0);
    result[1] = __any_sync(0xffffffff, lane == 7) + 2 * __all_sync(0xffffffff, lane < 31);
    result[2] = __match_any_sync(0xffffffff, lane / 8);
    result[3] = __shfl_sync(0xffffffff, lane, 3, 8);
    result[4] = __shfl_up_sync(0xffffffff, lane, 2u);
    result[5] = lane < 16 ? __ballot_sync(0x0000ffff, lane > 3) : __ballot_sync(0xffff0000, lane > 20);
    result[6] = __syncthreads_count(lane < 5);
    result[7] = (unsigned)__shfl_xor_sync(0xffffffff, (double)lane + 0.5, 1);
    for (int i = 0; i < 8; i++) out[threadIdx.x * 8 + i] = result[i];
}
EXPORT(votes)

KERNEL void returns_early(float* out) {
    if (threadIdx.x >= 40) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}
EXPORT(returns_early)

KERNEL void uninitialised(float* out) {
    __shared__ float fixed[32];
    DYNAMIC_SHARED(memory);
    out[threadIdx.x] = threadIdx.x < 16 ? fixed[threadIdx.x] : ((float*)memory)[threadIdx.x];
    fixed[threadIdx.x] = ((float*)memory)[threadIdx.x] = 1;
}
EXPORT(uninitialised)

KERNEL void deadlock() {
    if (threadIdx.x < 8) __syncthreads();
    else __syncwarp();
}
EXPORT(deadlock)

// One mask, but half of the lanes vote while the others shuffle.
KERNEL void different_collectives(unsigned* out) {
    out[threadIdx.x] = threadIdx.x < 16 ? __ballot_sync(0xffffffff, 1) : __shfl_sync(0xffffffff, threadIdx.x, 0);
}
EXPORT(different_collectives)

KERNEL void ends_before_matrix() {
    float d[4] = {};
    unsigned a[4] = {}, b[2] = {};
    if (threadIdx.x > 0) mma_m16n8k16(d, a, b);
}
EXPORT(ends_before_matrix)

KERNEL void misaligned_row() {
    DYNAMIC_SHARED(memory);
    unsigned r[4];
    load_matrix_x4(r, memory + 8);
}
EXPORT(misaligned_row)

KERNEL void misaligned_access(char* x, int offset) { *(float4*)(x + offset) = make_float4(1, 2, 3, 4); }
EXPORT(misaligned_access)

KERNEL void overrun_array(float* x, int index) {
    __shared__ float values[32];
    values[threadIdx.x] = 1;
    *x = values[index];
}
EXPORT(overrun_array)

KERNEL void overrun(float* x, int index) { x[index] = 1; }
EXPORT(overrun)

KERNEL void overrun_shared(int index) {
    DYNAMIC_SHARED(memory);
    memory[index] = 1;
}
EXPORT(overrun_shared)

KERNEL void asserts(int n) { assert(n == (int)threadIdx.x); }
EXPORT(asserts)

KERNEL void rounds(const float* x, unsigned short* out, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) out[i] = narrow(x[i]).bits;
}
EXPORT(rounds)
