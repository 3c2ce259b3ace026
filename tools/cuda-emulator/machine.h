// The machine as kernels see it: CUDA's built-in names, and the functions that machine.cuh writes in PTX, in
// plain C++ for g++. The program's text follows inside an anonymous namespace, which nvrtc.cpp opens.

#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

namespace {
const emulator::Machine* emulated_machine;
const emulator::Kernel* emulated_kernels;
} // namespace
// What the driver calls once a module is loaded: tells its state of this text, gives the machine, takes the
// list of kernels.
extern "C" __attribute__((visibility("default"))) const emulator::Kernel* emulated_connect(unsigned long long version,
                                                                                           const emulator::Machine* machine) {
    if (version != EMULATED_VERSION) return nullptr;
    emulated_machine = machine;
    return emulated_kernels;
}

// What g++'s checks call (-fsanitize=alignment,bounds): addresses that a GPU refuses for a type, and indices
// beyond an array.
struct EmulatedPlace {
    const char* file;
    unsigned line, column;
};
extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1_abort(const EmulatedPlace* place, const void*) {
    emulated_machine->fail("misaligned access", place->file, int(place->line));
}
extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_out_of_bounds_abort(const EmulatedPlace* place, const void*) {
    emulated_machine->fail("index beyond the array", place->file, int(place->line));
}

namespace {

// ---- The kernel's parameters, told to the driver ----
template <auto Function> struct EmulatedKernel;
template <class... Parameter, void (*Function)(Parameter...)> struct EmulatedKernel<Function> {
    static_assert((std::is_trivially_copyable_v<Parameter> && ...));
    static constexpr std::size_t bytes[] = {sizeof(Parameter)..., 0};
    template <std::size_t... I> static void expand(void** parameters, std::index_sequence<I...>) {
        Function(*static_cast<Parameter*>(parameters[I])...);
    }
    static void call(void** parameters) { expand(parameters, std::index_sequence_for<Parameter...>{}); }
    emulator::Kernel kernel;
    explicit EmulatedKernel(const char* name) : kernel{name, call, bytes, emulated_kernels} { emulated_kernels = &kernel; }
};
#define EXPORT(name) EmulatedKernel<&name> emulated_kernel_##name{#name};
#define KERNEL extern "C" __global__

// ---- Qualifiers ----
#define __global__ [[maybe_unused]]
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// g++ takes no standard attribute after `static`.
#define alignas(n) __attribute__((aligned(n)))
// Blocks run one at a time, so a block's memory may be static; the driver finds it by its section and poisons
// it before each block.
#define __shared__ static __attribute__((section("emulated_shared")))
#define DYNAMIC_SHARED(name) char* const name = emulated_machine->dynamic_shared

using uint3 = emulator::Triple;
struct dim3 : emulator::Triple {
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : Triple{x, y, z} {}
};
#define threadIdx (emulated_machine->thread_index)
#define blockIdx (emulated_machine->block_index)
#define blockDim (emulated_machine->block_dim)
#define gridDim (emulated_machine->grid_dim)
constexpr int warpSize = 32;
constexpr unsigned emulated_all = 0xffffffff;

#undef assert
#define assert(condition) ((condition) ? void() : emulated_machine->fail("assert(" #condition ")", __FILE__, __LINE__))
#define __trap() emulated_machine->fail("__trap()", __FILE__, __LINE__)

// ---- Vectors ----
#define EMULATED_VECTORS(type, name, bytes)                                                                                     \
    struct __align__(2 * bytes) name##2 { type x, y; };                                                                         \
    struct name##3 { type x, y, z; };                                                                                           \
    struct __align__((4 * bytes > 16 ? 16 : 4 * bytes)) name##4 { type x, y, z, w; };                                           \
    [[maybe_unused]] name##2 make_##name##2(type x, type y) { return {x, y}; }                                                  \
    [[maybe_unused]] name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                                       \
    [[maybe_unused]] name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATED_VECTORS(float, float, 4)
EMULATED_VECTORS(int, int, 4)
EMULATED_VECTORS(unsigned short, ushort, 2)
EMULATED_VECTORS(unsigned char, uchar, 1)
EMULATED_VECTORS(double, double, 8)
struct __align__(8) uint2 { unsigned x, y; };
struct __align__(16) uint4 { unsigned x, y, z, w; };
[[maybe_unused]] uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
[[maybe_unused]] uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
[[maybe_unused]] uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

// ---- Bits and arithmetic ----
template <class To, class From> inline To emulated_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float x) { return emulated_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return emulated_bits<float>(x); }
inline int __float_as_int(float x) { return emulated_bits<int>(x); }
inline float __int_as_float(int x) { return emulated_bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulated_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulated_bits<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)x); }
inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int bit = 0; bit < 32; bit++) reversed |= (x >> bit & 1) << (31 - bit);
    return reversed;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline float power_of_two(float x) { return exp2f(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline void sincosf(float x, float* sine, float* cosine) { *sine = sinf(x), *cosine = cosf(x); }
inline void __sincosf(float x, float* sine, float* cosine) { *sine = sinf(x), *cosine = cosf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
inline int __float2int_rn(float x) { return int(rintf(x)); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
#define EMULATED_MINMAX(a, b, result)                                                                                           \
    [[maybe_unused]] inline result min(a x, b y) { return (result)x < (result)y ? (result)x : (result)y; }                      \
    [[maybe_unused]] inline result max(a x, b y) { return (result)x > (result)y ? (result)x : (result)y; }
EMULATED_MINMAX(int, int, int)
EMULATED_MINMAX(unsigned, unsigned, unsigned)
EMULATED_MINMAX(int, unsigned, unsigned)
EMULATED_MINMAX(unsigned, int, unsigned)
EMULATED_MINMAX(long, long, long)
EMULATED_MINMAX(unsigned long, unsigned long, unsigned long)
EMULATED_MINMAX(long long, long long, long long)
EMULATED_MINMAX(unsigned long long, unsigned long long, unsigned long long)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// ---- Memory. Threads change only where they wait, so a plain read-modify-write is atomic. ----
template <class T> T __ldg(const T* address) { return *address; }
template <class T> T __ldcs(const T* address) { return *address; }
template <class T> T __ldcg(const T* address) { return *address; }
template <class T> void __stcs(T* address, T value) { *address = value; }
template <class T> void __stcg(T* address, T value) { *address = value; }
inline void __threadfence() { asm volatile("" ::: "memory"); }
inline void __threadfence_block() { asm volatile("" ::: "memory"); }
template <class T, class Change> T emulated_change(T* address, Change change) {
    const T old = *static_cast<volatile T*>(address);
    *static_cast<volatile T*>(address) = change(old);
    return old;
}
// The operand converts to the memory's type, as with CUDA's overloads.
template <class T> using EmulatedOperand = std::common_type_t<T>;
template <class T> T atomicAdd(T* address, EmulatedOperand<T> x) { return emulated_change(address, [=](T old) { return T(old + x); }); }
template <class T> T atomicSub(T* address, EmulatedOperand<T> x) { return emulated_change(address, [=](T old) { return T(old - x); }); }
template <class T> T atomicMax(T* address, EmulatedOperand<T> x) { return emulated_change(address, [=](T old) { return old < x ? x : old; }); }
template <class T> T atomicMin(T* address, EmulatedOperand<T> x) { return emulated_change(address, [=](T old) { return x < old ? x : old; }); }
template <class T> T atomicOr(T* address, EmulatedOperand<T> x) { return emulated_change(address, [=](T old) { return T(old | x); }); }
template <class T> T atomicAnd(T* address, EmulatedOperand<T> x) { return emulated_change(address, [=](T old) { return T(old & x); }); }
template <class T> T atomicExch(T* address, EmulatedOperand<T> x) { return emulated_change(address, [=](T) { return x; }); }
template <class T> T atomicCAS(T* address, EmulatedOperand<T> expected, EmulatedOperand<T> x) {
    return emulated_change(address, [=](T old) { return old == expected ? x : old; });
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
    return emulated_change(address, [=](unsigned old) { return old >= limit ? 0 : old + 1; });
}

// ---- The block's barrier ----
inline int __syncthreads_count(int predicate) { return int(emulated_machine->barrier(predicate != 0)); }
inline void __syncthreads() { __syncthreads_count(0); }
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) > 0; }
inline int __syncthreads_and(int predicate) { return __syncthreads_count(predicate == 0) == 0; }

// ---- What the lanes of a warp do together ----
inline void __syncwarp(unsigned mask = emulated_all) {
    static constexpr emulator::Collective meet{"__syncwarp", [](void* const*) {}, false};
    emulated_machine->collective(&meet, mask, nullptr);
}

template <class T> struct EmulatedShuffle {
    T value, result;
    unsigned source;
    static void compute(void* const operands[32]) {
        for (int lane = 0; lane < 32; lane++) {
            auto* own = static_cast<EmulatedShuffle*>(operands[lane]);
            if (own == nullptr) continue;
            auto* source = static_cast<EmulatedShuffle*>(operands[own->source]);
            if (source) own->result = source->value;
            else std::memset(&own->result, 0xff, sizeof(T)); // what an absent lane holds is undefined
        }
    }
    static constexpr emulator::Collective collective{"__shfl_sync", compute, false};
};
template <class T> T emulated_shuffle(unsigned mask, T value, unsigned source) {
    static_assert(std::is_arithmetic_v<T>);
    EmulatedShuffle<T> operand{value, value, source};
    emulated_machine->collective(&EmulatedShuffle<T>::collective, mask, &operand);
    return operand.result;
}
template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const unsigned first = emulated_machine->lane & -unsigned(width);
    return emulated_shuffle(mask, value, first | (unsigned(source) & unsigned(width - 1)));
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
    const unsigned lane = emulated_machine->lane, end = (lane & -unsigned(width)) + unsigned(width);
    const unsigned source = lane ^ unsigned(with);
    return emulated_shuffle(mask, value, source < end ? source : lane);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const unsigned lane = emulated_machine->lane, end = (lane & -unsigned(width)) + unsigned(width);
    return emulated_shuffle(mask, value, lane + by < end ? lane + by : lane);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const unsigned lane = emulated_machine->lane, first = lane & -unsigned(width);
    return emulated_shuffle(mask, value, lane >= first + by ? lane - by : lane);
}

struct EmulatedVote {
    unsigned long long value;
    unsigned result;
    // Each lane learns which lanes chose: those with a value (a ballot), or those with its own value (a
    // match).
    template <bool Match> static void compute(void* const operands[32]) {
        const auto lanes = reinterpret_cast<EmulatedVote* const*>(operands);
        for (int lane = 0; lane < 32; lane++) {
            if (lanes[lane] == nullptr) continue;
            lanes[lane]->result = 0;
            for (int other = 0; other < 32; other++) {
                const bool counts = lanes[other] && (Match ? lanes[other]->value == lanes[lane]->value : lanes[other]->value != 0);
                lanes[lane]->result |= unsigned(counts) << other;
            }
        }
    }
    static constexpr emulator::Collective ballot{"__ballot_sync (or any, all)", compute<false>, false};
    static constexpr emulator::Collective match{"__match_any_sync", compute<true>, false};
};
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    EmulatedVote operand{predicate != 0, 0};
    emulated_machine->collective(&EmulatedVote::ballot, mask, &operand);
    return operand.result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate == 0) == 0; }
template <class T> unsigned __match_any_sync(unsigned mask, T value) {
    EmulatedVote operand{0, 0};
    std::memcpy(&operand.value, &value, sizeof value);
    emulated_machine->collective(&EmulatedVote::match, mask, &operand);
    return operand.result;
}

// ---- bfloat16 ----
struct bf16 {
    unsigned short bits;
};
inline float widen(bf16 x) { return __uint_as_float(unsigned(x.bits) << 16); }
inline bf16 narrow(float x) {
    const unsigned bits = __float_as_uint(x);
    if (x != x) return {0x7fff}; // what cvt.rn.bf16.f32 gives for every NaN
    return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
inline unsigned pack_bf16(float low, float high) { return narrow(low).bits | unsigned(narrow(high).bits) << 16; }

// ---- Tensor cores ----
// Registers as in PTX's figures for m16n8k16, with group = lane / 4 and pair = lane % 4.
struct EmulatedMma {
    float* d;
    const unsigned *a, *b;
    static void compute(void* const operands[32]) {
        typedef float Row __attribute__((vector_size(32)));
        float a[16][16];
        Row b[16], d[16];
        const auto low = [](unsigned pair) { return __uint_as_float(pair << 16); };
        const auto high = [](unsigned pair) { return __uint_as_float(pair & 0xffff0000); };
        for (int lane = 0; lane < 32; lane++) {
            const auto& own = *static_cast<EmulatedMma*>(operands[lane]);
            const int group = lane / 4, pair = lane % 4;
            for (int i = 0; i < 4; i++) {
                const int row = group + i % 2 * 8, column = 2 * pair + i / 2 * 8;
                a[row][column] = low(own.a[i]), a[row][column + 1] = high(own.a[i]);
                d[group + i / 2 * 8][2 * pair + i % 2] = own.d[i];
            }
            for (int i = 0; i < 2; i++) {
                b[2 * pair + i * 8][group] = low(own.b[i]), b[2 * pair + i * 8 + 1][group] = high(own.b[i]);
            }
        }
        for (int row = 0; row < 16; row++)
            for (int k = 0; k < 16; k++) d[row] += a[row][k] * b[k];
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++) {
                static_cast<EmulatedMma*>(operands[lane])->d[i] = d[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
            }
    }
    static constexpr emulator::Collective collective{"mma_m16n8k16", compute, true};
};
inline void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    EmulatedMma operand{d, a, b};
    emulated_machine->collective(&EmulatedMma::collective, emulated_all, &operand);
}

template <int Matrices, bool Transposed> struct EmulatedLoad {
    unsigned* result;
    const void* row; // of matrix lane / 8, row lane % 8
    static void compute(void* const operands[32]) {
        for (int matrix = 0; matrix < Matrices; matrix++) {
            unsigned short values[8][8];
            for (int row = 0; row < 8; row++) {
                const void* address = static_cast<EmulatedLoad*>(operands[matrix * 8 + row])->row;
                emulated_machine->require_shared(address, 16, "a row of load_matrix");
                std::memcpy(values[row], address, 16);
            }
            for (int lane = 0; lane < 32; lane++) {
                const int row = lane / 4, column = lane % 4 * 2;
                const unsigned low = Transposed ? values[column][row] : values[row][column];
                const unsigned high = Transposed ? values[column + 1][row] : values[row][column + 1];
                static_cast<EmulatedLoad*>(operands[lane])->result[matrix] = low | high << 16;
            }
        }
    }
    static constexpr emulator::Collective collective{Transposed ? "load_matrix (transposed)" : "load_matrix", compute, true};
    static void load(unsigned* result, const void* row) {
        EmulatedLoad operand{result, row};
        emulated_machine->collective(&collective, emulated_all, &operand);
    }
};
inline void load_matrix_x4(unsigned (&r)[4], const void* shared_row) { EmulatedLoad<4, false>::load(r, shared_row); }
inline void load_matrix_x4_transposed(unsigned (&r)[4], const void* shared_row) { EmulatedLoad<4, true>::load(r, shared_row); }
inline void load_matrix_x2(unsigned (&r)[2], const void* shared_row) { EmulatedLoad<2, false>::load(r, shared_row); }
inline void load_matrix_x2_transposed(unsigned (&r)[2], const void* shared_row) { EmulatedLoad<2, true>::load(r, shared_row); }

// ---- Copies under way ----
inline void copy_async_16(void* shared, const void* global, bool valid) { emulated_machine->copy_async(shared, global, valid); }
inline void copy_async_commit() { emulated_machine->copy_async_commit(); }
template <int N> void copy_async_wait() { emulated_machine->copy_async_wait(N); }

} // namespace
