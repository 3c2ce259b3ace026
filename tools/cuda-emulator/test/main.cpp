// The emulator's own test: emulator-test FOLDER_OF_KERNELS. Ends with the number of failed checks.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using Device = std::uintptr_t;
using Handle = void*;

struct KernelNodeParameters {
    Handle function;
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, dynamic_shared_bytes;
    void** parameters;
    Handle extra, kernel, context;
};

struct Heuristic {
    std::uint64_t algorithm[8];
    std::size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
};

extern "C" {
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(Handle*, int);
int cuCtxSetCurrent(Handle);
int cuCtxSynchronize();
int cuMemAlloc_v2(Device*, std::size_t);
int cuMemFree_v2(Device);
int cuMemGetInfo_v2(std::size_t*, std::size_t*);
int cuMemAllocHost_v2(void**, std::size_t);
int cuMemFreeHost(void*);
int cuMemcpyHtoD_v2(Device, const void*, std::size_t);
int cuMemcpyDtoH_v2(void*, Device, std::size_t);
int cuMemcpyHtoDAsync_v2(Device, const void*, std::size_t, Handle);
int cuMemcpyDtoHAsync_v2(void*, Device, std::size_t, Handle);
int cuMemsetD32Async(Device, unsigned, std::size_t, Handle);
int cuStreamCreate(Handle*, unsigned);
int cuStreamDestroy_v2(Handle);
int cuStreamSynchronize(Handle);
int cuStreamWaitEvent(Handle, Handle, unsigned);
int cuStreamBeginCapture_v2(Handle, int);
int cuStreamEndCapture(Handle, Handle*);
int cuStreamGetCaptureInfo_v3(Handle, int*, std::uint64_t*, Handle*, Handle const**, const void**, std::size_t*);
int cuEventCreate(Handle*, unsigned);
int cuEventRecord(Handle, Handle);
int cuEventQuery(Handle);
int cuEventSynchronize(Handle);
int cuEventElapsedTime_v2(float*, Handle, Handle);
int cuEventDestroy_v2(Handle);
int cuModuleLoadData(Handle*, const void*);
int cuModuleGetFunction(Handle*, Handle, const char*);
int cuModuleUnload(Handle);
int cuFuncSetAttribute(Handle, int, int);
int cuLaunchKernel(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle, void**, void**);
int cuGraphInstantiateWithFlags(Handle*, Handle, std::uint64_t);
int cuGraphLaunch(Handle, Handle);
int cuGraphGetNodes(Handle, Handle*, std::size_t*);
int cuGraphNodeGetType(Handle, int*);
int cuGraphAddKernelNode_v2(Handle*, Handle, const Handle*, std::size_t, const KernelNodeParameters*);
int cuGraphExecKernelNodeSetParams_v2(Handle, Handle, const KernelNodeParameters*);
int cuGraphExecDestroy(Handle);
int cuGraphDestroy(Handle);
int nvrtcCreateProgram(Handle*, const char*, const char*, int, const char* const*, const char* const*);
int nvrtcCompileProgram(Handle, int, const char* const*);
int nvrtcGetProgramLogSize(Handle, std::size_t*);
int nvrtcGetProgramLog(Handle, char*);
int nvrtcGetCUBINSize(Handle, std::size_t*);
int nvrtcGetCUBIN(Handle, char*);
int nvrtcDestroyProgram(Handle*);
int cublasLtCreate(Handle*);
int cublasLtMatmulDescCreate(Handle*, int, int);
int cublasLtMatmulDescSetAttribute(Handle, int, const void*, std::size_t);
int cublasLtMatrixLayoutCreate(Handle*, int, std::uint64_t, std::uint64_t, std::int64_t);
int cublasLtMatrixLayoutSetAttribute(Handle, int, const void*, std::size_t);
int cublasLtMatmulPreferenceCreate(Handle*);
int cublasLtMatmulPreferenceSetAttribute(Handle, int, const void*, std::size_t);
int cublasLtMatmulAlgoGetHeuristic(Handle, Handle, Handle, Handle, Handle, Handle, Handle, int, Heuristic*, int*);
int cublasLtMatmul(Handle, Handle, const void*, const void*, Handle, const void*, Handle, const void*, const void*, Handle, void*, Handle,
                   const void*, void*, std::size_t, Handle);
}

namespace {

int failures = 0;
#define CHECK(condition) ((condition) ? void() : (void)(std::printf("FAILED %s:%d: %s\n", __FILE__, __LINE__, #condition), failures++))
#define OK(call)                                                                                                                \
    do {                                                                                                                        \
        const int ok_result = call;                                                                                             \
        if (ok_result != 0) std::printf("FAILED %s:%d: %s gave %d\n", __FILE__, __LINE__, #call, ok_result), std::exit(1);      \
    } while (false)

Handle module = nullptr;

Handle function(const char* name) {
    Handle found;
    OK(cuModuleGetFunction(&found, module, name));
    return found;
}

// An array of the device.
template <class T> struct Array {
    Device address = 0;
    std::size_t count;
    explicit Array(std::size_t n) : count(n) { OK(cuMemAlloc_v2(&address, n * sizeof(T))); }
    explicit Array(const std::vector<T>& values) : Array(values.size()) { OK(cuMemcpyHtoD_v2(address, values.data(), count * sizeof(T))); }
    Array(const Array&) = delete;
    ~Array() { OK(cuMemFree_v2(address)); }
    std::vector<T> get() const {
        std::vector<T> values(count);
        OK(cuMemcpyDtoH_v2(values.data(), address, count * sizeof(T)));
        return values;
    }
};

template <class... P> int try_launch(Handle kernel, unsigned grid, unsigned block, unsigned shared, Handle stream, P... parameters) {
    void* pointers[] = {&parameters..., nullptr};
    return cuLaunchKernel(kernel, grid, 1, 1, block, 1, 1, shared, stream, pointers, nullptr);
}
template <class... P> void launch(const char* name, unsigned grid, unsigned block, unsigned shared, P... parameters) {
    OK(try_launch(function(name), grid, block, shared, nullptr, parameters...));
}

std::mt19937 generator(7);
std::vector<float> random_values(std::size_t n) {
    std::vector<float> values(n);
    for (float& x : values) x = float(generator() % 2001) / 1000 - 1;
    return values;
}

std::uint16_t narrow(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return std::uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float widen(std::uint16_t bits) {
    const std::uint32_t wide = std::uint32_t(bits) << 16;
    float x;
    std::memcpy(&x, &wide, 4);
    return x;
}
std::vector<std::uint16_t> narrow(const std::vector<float>& values) {
    std::vector<std::uint16_t> result;
    for (float x : values) result.push_back(narrow(x));
    return result;
}

// What a child process that must not survive says before it ends.
std::string dies(const std::function<void()>& what) {
    int ends[2];
    if (pipe(ends) != 0) std::abort();
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        what();
        OK(cuCtxSynchronize());
        _exit(0);
    }
    close(ends[1]);
    std::string said;
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, std::size_t(n));
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? said : "survived: " + said;
}
bool has(const std::string& text, const char* part) {
    const bool found = text.find(part) != std::string::npos;
    if (!found) std::printf("no \"%s\" in: %s\n", part, text.c_str());
    return found;
}

void test_compiler(const std::string& folder) {
    Handle program;
    std::size_t bytes;
    OK(nvrtcCreateProgram(&program, "KERNEL void f() { undeclared(); }", "wrong.cu", 0, nullptr, nullptr));
    CHECK(nvrtcCompileProgram(program, 0, nullptr) == 6);
    OK(nvrtcGetProgramLogSize(program, &bytes));
    std::string log(bytes, ' ');
    OK(nvrtcGetProgramLog(program, log.data()));
    CHECK(has(log, "wrong.cu:1:") && has(log, "undeclared"));
    OK(nvrtcDestroyProgram(&program));

    std::ifstream file(folder + "/kernels.cu");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    OK(nvrtcCreateProgram(&program, text.c_str(), "kernels.cu", 0, nullptr, nullptr));
    const char* options[] = {"--gpu-architecture=sm_90a", "--std=c++17", "--use_fast_math"};
    if (nvrtcCompileProgram(program, 3, options) != 0) {
        OK(nvrtcGetProgramLogSize(program, &bytes));
        log.resize(bytes);
        OK(nvrtcGetProgramLog(program, log.data()));
        std::printf("FAILED kernels.cu: %s\n", log.c_str()), std::exit(1);
    }
    OK(nvrtcGetCUBINSize(program, &bytes));
    std::vector<char> binary(bytes);
    OK(nvrtcGetCUBIN(program, binary.data()));
    OK(nvrtcDestroyProgram(&program));
    OK(cuModuleLoadData(&module, binary.data()));
    Handle again, missing;
    OK(cuModuleLoadData(&again, binary.data())); // a second one beside it
    OK(cuModuleUnload(again));
    CHECK(cuModuleGetFunction(&missing, module, "missing") == 500);
    CHECK(cuModuleLoadData(&again, "// PTX, which is text") == 200);
}

void test_add() {
    const auto a = random_values(1000), b = random_values(1000);
    Array<float> device_a(a), device_b(b), sum(1000);
    CHECK(std::isnan(sum.get()[0]));
    launch("add", 8, 128, 0, device_a.address, device_b.address, sum.address, 999);
    const auto result = sum.get();
    for (int i = 0; i < 999; i++) CHECK(result[i] == a[i] + b[i]);
    CHECK(std::isnan(result[999]));
}

void test_reduction() {
    const int rows = 37, columns = 700;
    const auto x = random_values(rows * columns);
    Array<float> device_x(x), sums(rows), total(std::vector<float>(2, 0));
    Array<unsigned> done(std::vector<unsigned>(1, 0));
    launch("sum_rows", rows, 256, 0, device_x.address, columns, sums.address, total.address, done.address);
    double all = 0;
    for (int row = 0; row < rows; row++) {
        double sum = 0;
        for (int i = 0; i < columns; i++) sum += x[row * columns + i];
        CHECK(std::fabs(sums.get()[row] - sum) < 1e-3);
        all += sum;
    }
    CHECK(std::fabs(total.get()[0] - all) < 1e-3 && std::fabs(total.get()[1] - all) < 1e-3);
}

void test_matrix() {
    const auto a = narrow(random_values(256)), b = narrow(random_values(128));
    for (int transposed : {0, 1}) {
        Array<std::uint16_t> device_a(a), device_b(b);
        Array<float> d(128);
        launch("product", 1, 32, 768, device_a.address, device_b.address, d.address, transposed);
        const auto result = d.get();
        for (int row = 0; row < 16; row++)
            for (int column = 0; column < 8; column++) {
                double sum = 0;
                for (int k = 0; k < 16; k++) sum += widen(a[row * 16 + k]) * widen(transposed ? b[k * 8 + column] : b[column * 16 + k]);
                CHECK(std::fabs(result[row * 8 + column] - sum) < 1e-5);
            }
    }
    std::vector<std::uint16_t> numbers(256);
    for (int i = 0; i < 256; i++) numbers[i] = std::uint16_t(i);
    Array<std::uint16_t> in(numbers);
    Array<unsigned> out(128);
    launch("transpose", 1, 32, 0, in.address, out.address);
    const auto registers = out.get();
    for (unsigned matrix = 0; matrix < 4; matrix++)
        for (unsigned lane = 0; lane < 32; lane++) {
            const unsigned low = matrix * 64 + lane % 4 * 2 * 8 + lane / 4;
            CHECK(registers[matrix * 32 + lane] == (low | (low + 8) << 16));
        }
}

void test_pipeline() {
    const int n = 500;
    const auto x = random_values(n);
    Array<float> in(x), out(n);
    launch("pipeline", 1, 32, 1024, in.address, out.address, n, 0);
    const auto right = out.get();
    for (int i = 0; i < n; i++) CHECK(right[i] == 2 * x[i]);
    launch("pipeline", 1, 32, 1024, in.address, out.address, n, 1);
    CHECK(std::isnan(out.get()[0]));
}

void test_votes() {
    Array<unsigned> out(64 * 8);
    launch("votes", 1, 64, 0, out.address);
    const auto r = out.get();
    for (unsigned t = 0; t < 64; t++) {
        const unsigned lane = t % 32;
        CHECK(r[t * 8] == 0x49249249);
        CHECK(r[t * 8 + 1] == 1);
        CHECK(r[t * 8 + 2] == 0xffu << lane / 8 * 8);
        CHECK(r[t * 8 + 3] == lane / 8 * 8 + 3);
        CHECK(r[t * 8 + 4] == (lane < 2 ? lane : lane - 2));
        CHECK(r[t * 8 + 5] == (lane < 16 ? 0xfff0u : 0xffe00000u));
        CHECK(r[t * 8 + 6] == 10);
        CHECK(r[t * 8 + 7] == (lane ^ 1));
    }
    Array<float> ones(40);
    launch("returns_early", 1, 96, 0, ones.address);
    CHECK(ones.get()[39] == 1);
    Array<float> poison(32);
    launch("uninitialised", 2, 32, 128, poison.address);
    for (float x : poison.get()) CHECK(std::isnan(x));
    // 64 threads in order see each other's values only by luck; shuffled they must not all.
    Array<float> racing(64);
    launch("missing_barrier", 1, 64, 0, racing.address);
    bool seen = false;
    for (float x : racing.get()) seen |= std::isnan(x);
    CHECK(seen);
    const std::vector<float> values = {1.0f, 1.00390625f, 1.01171875f, -1.0f / 3, std::numeric_limits<float>::infinity(), NAN, -NAN, 1e-40f};
    Array<float> floats(values);
    Array<unsigned short> halves(values.size());
    launch("rounds", 1, 32, 0, floats.address, halves.address, int(values.size()));
    CHECK((halves.get() == std::vector<unsigned short>{0x3f80, 0x3f80, 0x3f82, 0xbeab, 0x7f80, 0x7fff, 0x7fff, 0x0001}));
}

void test_limits() {
    const Handle overrun_shared = function("overrun_shared");
    CHECK(try_launch(overrun_shared, 1, 1025, 0, nullptr, 0) == 1);
    CHECK(try_launch(overrun_shared, 0, 32, 0, nullptr, 0) == 1);
    CHECK(try_launch(overrun_shared, 1, 32, 50000, nullptr, 0) == 1);
    CHECK(cuFuncSetAttribute(overrun_shared, 8, 232449) == 1);
    OK(cuFuncSetAttribute(overrun_shared, 8, 232448));
    OK(try_launch(overrun_shared, 1, 32, 232448, nullptr, 232447));
    Device memory;
    std::size_t free_bytes, total;
    OK(cuMemGetInfo_v2(&free_bytes, &total));
    CHECK(cuMemAlloc_v2(&memory, free_bytes + 1) == 2);
    OK(cuMemAlloc_v2(&memory, free_bytes));
    OK(cuMemFree_v2(memory));
    CHECK(cuMemcpyHtoD_v2(memory, &memory, 8) == 1);
}

void test_deaths() {
    auto said = dies([] { launch("deadlock", 1, 32, 0); });
    CHECK(has(said, "kernel deadlock, block (0, 0, 0)") && has(said, "threads 0 to 7 wait at __syncthreads") &&
          has(said, "threads 8 to 31 wait in __syncwarp with mask ffffffff"));
    Array<unsigned> lanes(32);
    said = dies([&] { launch("different_collectives", 1, 32, 0, lanes.address); });
    CHECK(has(said, "threads 0 to 15 wait in __ballot_sync") && has(said, "threads 16 to 31 wait in __shfl_sync"));
    said = dies([] { launch("ends_before_matrix", 1, 32, 0); });
    CHECK(has(said, "threads 0 to 0 have ended") && has(said, "threads 1 to 31 wait in mma_m16n8k16"));
    said = dies([] { launch("misaligned_row", 1, 32, 32768); });
    CHECK(has(said, "not aligned to 16 bytes"));
    said = dies([] { launch("overrun_shared", 1, 1, 64, 64); });
    CHECK(has(said, "0 bytes behind the block's dynamic shared memory"));
    said = dies([] { launch("asserts", 1, 32, 0, 0); });
    CHECK(has(said, "assert(n == (int)threadIdx.x) (kernels.cu:"));
    Array<float> x(64);
    said = dies([&] { launch("misaligned_access", 1, 1, 0, x.address, 8); });
    CHECK(has(said, "misaligned access (kernels.cu:"));
    CHECK(has(dies([&] { launch("misaligned_access", 1, 1, 0, x.address, 16); }), "survived"));
    said = dies([&] { launch("overrun_array", 1, 32, 0, x.address, 32); });
    CHECK(has(said, "index beyond the array (kernels.cu:"));
    said = dies([&] { launch("overrun", 1, 1, 0, x.address, 64); });
    CHECK(has(said, "kernel overrun") && has(said, "0 bytes behind an allocation of 256 bytes"));
    said = dies([&] { launch("overrun", 1, 1, 0, x.address, -1100); });
    CHECK(has(said, "bytes before an allocation of 256 bytes"));
    said = dies([&] { launch("overrun", 1, 1, 0, x.address, 0); });
    CHECK(has(said, "survived"));
}

void test_streams() {
    Handle stream, other, event, start;
    OK(cuStreamCreate(&stream, 1));
    OK(cuStreamCreate(&other, 1));
    OK(cuEventCreate(&event, 0));
    OK(cuEventCreate(&start, 0));
    float* pinned;
    OK(cuMemAllocHost_v2(reinterpret_cast<void**>(&pinned), 4));
    Array<float> x(1);
    // The buffer is overwritten before the stream has read it.
    OK(cuEventRecord(start, stream));
    *pinned = 1;
    OK(cuMemcpyHtoDAsync_v2(x.address, pinned, 4, stream));
    *pinned = 2;
    OK(cuEventRecord(event, stream));
    CHECK(cuEventQuery(event) == 600);
    OK(cuStreamWaitEvent(other, event, 0));
    OK(try_launch(function("scale"), 1, 1, 0, other, x.address, 1, 10.0f));
    OK(cuMemcpyDtoHAsync_v2(pinned, x.address, 4, other));
    CHECK(*pinned == 2);
    OK(cuStreamSynchronize(other));
    CHECK(*pinned == 20);
    OK(cuEventSynchronize(event));
    float ms = -1;
    OK(cuEventElapsedTime_v2(&ms, start, event));
    CHECK(ms >= 0);
    // A non-blocking stream is not waited for by a copy of the legacy stream.
    OK(cuMemsetD32Async(x.address, 0, 1, stream));
    CHECK(x.get()[0] == 20);
    OK(cuCtxSynchronize());
    CHECK(x.get()[0] == 0);
    OK(cuEventDestroy_v2(event));
    OK(cuEventDestroy_v2(start));
    OK(cuMemFreeHost(pinned));
    OK(cuStreamDestroy_v2(stream));
    OK(cuStreamDestroy_v2(other));
}

void test_graphs() {
    Handle stream, graph, executable;
    OK(cuStreamCreate(&stream, 1));
    Array<float> x(std::vector<float>(4, 1.0f));
    const Handle scale = function("scale");
    OK(cuStreamBeginCapture_v2(stream, 1));
    CHECK(cuStreamSynchronize(stream) == 900);
    CHECK(cuStreamEndCapture(stream, &graph) == 901);

    OK(cuStreamBeginCapture_v2(stream, 1));
    OK(try_launch(scale, 1, 32, 0, stream, x.address, 4, 3.0f));
    int status;
    std::uint64_t id;
    Handle captured;
    Handle const* dependencies;
    std::size_t count;
    OK(cuStreamGetCaptureInfo_v3(stream, &status, &id, &captured, &dependencies, nullptr, &count));
    CHECK(status == 1 && count == 1);
    const Handle node = dependencies[0];
    OK(try_launch(scale, 1, 32, 0, stream, x.address, 2, 2.0f));
    OK(cuStreamEndCapture(stream, &graph));
    CHECK(graph == captured && x.get()[0] == 1);
    CHECK(cuStreamGetCaptureInfo_v3(stream, &status, nullptr, nullptr, nullptr, nullptr, nullptr) == 0 && status == 0);
    OK(cuGraphGetNodes(graph, nullptr, &count));
    int type;
    OK(cuGraphNodeGetType(node, &type));
    CHECK(count == 2 && type == 0);
    Device address = x.address;
    int n = 4;
    float factor = 5;
    void* parameters[] = {&address, &n, &factor};
    const KernelNodeParameters changed{scale, 1, 1, 1, 32, 1, 1, 0, parameters, nullptr, nullptr, nullptr};
    Handle added;
    OK(cuGraphAddKernelNode_v2(&added, graph, &node, 1, &changed)); // times 5 more
    OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
    OK(cuGraphLaunch(executable, stream));
    OK(cuStreamSynchronize(stream));
    CHECK(x.get()[0] == 30 && x.get()[3] == 15);
    factor = 0.5f;
    OK(cuGraphLaunch(executable, stream)); // not reached by the change after it
    OK(cuGraphExecKernelNodeSetParams_v2(executable, node, &changed));
    factor = 100;
    OK(cuGraphLaunch(executable, stream));
    OK(cuStreamSynchronize(stream));
    CHECK(x.get()[0] == 30 * 30 * 5 && x.get()[3] == 15 * 15 * 2.5f);
    OK(cuGraphDestroy(graph));
    CHECK(cuGraphExecKernelNodeSetParams_v2(executable, node, &changed) == 1); // its graph is gone
    OK(cuGraphLaunch(executable, stream));
    OK(cuStreamSynchronize(stream));
    OK(cuGraphExecDestroy(executable));
    OK(cuStreamDestroy_v2(stream));
}

void test_matmul() {
    Handle handle, stream;
    OK(cublasLtCreate(&handle));
    OK(cuStreamCreate(&stream, 1));
    const int bf16 = 14, f32 = 0;
    struct Case {
        std::uint64_t m, n, k;
        int operands, result;
        float beta;
        int batches;
    };
    const Case cases[] = {{1, 1, 1, bf16, f32, 0, 1},    {7, 5, 3, f32, f32, 0.5f, 1},    {40, 13, 17, bf16, bf16, 1, 1},
                          {33, 70, 400, bf16, f32, 1, 1}, {300, 50, 64, bf16, bf16, 0, 1}, {20, 30, 10, bf16, f32, 0, 3}};
    for (const Case& c : cases) {
        for (int transposes = 0; transposes < 4; transposes++) {
            const int ta = transposes & 1, tb = transposes >> 1;
            const std::uint64_t a_rows = ta ? c.k : c.m, a_columns = ta ? c.m : c.k, b_rows = tb ? c.n : c.k, b_columns = tb ? c.k : c.n;
            const std::uint64_t lda = a_rows + 3, ldb = b_rows + 1, ldd = c.m + 2;
            const std::int64_t strides[] = {std::int64_t(lda * a_columns), std::int64_t(ldb * b_columns), std::int64_t(ldd * c.n)};
            const auto values = [&](int which) { return random_values(std::size_t(strides[which] * c.batches)); };
            auto a = values(0), b = values(1), d = values(2);
            const auto put = [&](std::vector<float>& x, int type) {
                Device address;
                OK(cuMemAlloc_v2(&address, x.size() * (type == f32 ? 4 : 2)));
                if (type == bf16) {
                    const auto narrowed = narrow(x);
                    OK(cuMemcpyHtoD_v2(address, narrowed.data(), 2 * x.size()));
                    for (float& value : x) value = widen(narrow(value));
                } else {
                    OK(cuMemcpyHtoD_v2(address, x.data(), 4 * x.size()));
                }
                return address;
            };
            const Device da = put(a, c.operands), db = put(b, c.operands), dd = put(d, c.result);
            Handle product, la, lb, ld, preference;
            OK(cublasLtMatmulDescCreate(&product, 68, f32));
            OK(cublasLtMatmulDescSetAttribute(product, 3, &ta, 4));
            OK(cublasLtMatmulDescSetAttribute(product, 4, &tb, 4));
            OK(cublasLtMatrixLayoutCreate(&la, c.operands, a_rows, a_columns, std::int64_t(lda)));
            OK(cublasLtMatrixLayoutCreate(&lb, c.operands, b_rows, b_columns, std::int64_t(ldb)));
            OK(cublasLtMatrixLayoutCreate(&ld, c.result, c.m, c.n, std::int64_t(ldd)));
            Handle layouts[] = {la, lb, ld};
            for (int i = 0; i < 3; i++) {
                OK(cublasLtMatrixLayoutSetAttribute(layouts[i], 5, &c.batches, 4));
                OK(cublasLtMatrixLayoutSetAttribute(layouts[i], 6, &strides[i], 8));
            }
            OK(cublasLtMatmulPreferenceCreate(&preference));
            const std::uint64_t workspace_bytes = 1 << 20;
            OK(cublasLtMatmulPreferenceSetAttribute(preference, 1, &workspace_bytes, 8));
            Heuristic found[4];
            int count;
            OK(cublasLtMatmulAlgoGetHeuristic(handle, product, la, lb, ld, ld, preference, 4, found, &count));
            CHECK(count == 2 && found[1].workspace_bytes == workspace_bytes);
            Array<char> workspace(workspace_bytes);
            float alpha = 0.75f, beta = c.beta;
            const auto multiply = [&](Device a_at, Handle b_layout, std::size_t bytes) {
                return cublasLtMatmul(handle, product, &alpha, (void*)a_at, la, (void*)db, b_layout, &beta, (void*)dd, ld, (void*)dd, ld,
                                      found[1].algorithm, (void*)workspace.address, bytes, stream);
            };
            CHECK(multiply(da + 16, lb, workspace_bytes) == 7); // 256 bytes were promised
            CHECK(multiply(da, lb, workspace_bytes - 1) == 7);
            Handle other_type;
            OK(cublasLtMatrixLayoutCreate(&other_type, c.operands == f32 ? bf16 : f32, b_rows, b_columns, std::int64_t(ldb)));
            OK(cublasLtMatrixLayoutSetAttribute(other_type, 5, &c.batches, 4));
            CHECK(multiply(da, other_type, workspace_bytes) == 15);
            OK(multiply(da, lb, workspace_bytes));
            alpha = beta = 1000; // read at the call
            OK(cuStreamSynchronize(stream));
            std::vector<float> result(d.size());
            if (c.result == f32) {
                OK(cuMemcpyDtoH_v2(result.data(), dd, 4 * d.size()));
            } else {
                std::vector<std::uint16_t> bits(d.size());
                OK(cuMemcpyDtoH_v2(bits.data(), dd, 2 * d.size()));
                for (std::size_t i = 0; i < bits.size(); i++) result[i] = widen(bits[i]);
            }
            double worst = 0;
            for (std::size_t batch = 0; batch < std::size_t(c.batches); batch++)
                for (std::size_t column = 0; column < c.n; column++)
                    for (std::size_t row = 0; row < ldd; row++) {
                        const std::size_t at = batch * strides[2] + column * ldd + row;
                        double expected = d[at]; // between the columns nothing changes
                        if (row < c.m) {
                            expected *= c.beta;
                            for (std::size_t k = 0; k < c.k; k++)
                                expected += 0.75 * a[batch * strides[0] + (ta ? row * lda + k : k * lda + row)] *
                                            b[batch * strides[1] + (tb ? k * ldb + column : column * ldb + k)];
                        }
                        worst = std::max(worst, std::fabs(result[at] - expected) / (1 + std::fabs(expected)));
                    }
            CHECK(worst < (c.result == f32 ? 1e-5 : 1.0 / 256));
            for (Device memory : {da, db, dd}) OK(cuMemFree_v2(memory));
        }
    }
}

} // namespace

int main(int count, char** arguments) {
    if (count != 2) return std::fprintf(stderr, "usage: emulator-test FOLDER_OF_KERNELS\n"), 2;
    Handle context;
    Device memory;
    OK(cuInit(0));
    CHECK(cuMemAlloc_v2(&memory, 4) == 201);
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    test_compiler(arguments[1]);
    test_add();
    test_reduction();
    test_matrix();
    test_pipeline();
    test_votes();
    test_limits();
    test_deaths();
    test_streams();
    test_graphs();
    test_matmul();
    std::printf("emulator: %d checks failed (EMULATED_ORDER %s)\n", failures, std::getenv("EMULATED_ORDER") ? std::getenv("EMULATED_ORDER") : "none");
    return failures != 0;
}
