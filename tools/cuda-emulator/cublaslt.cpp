// libcublasLt.so.13: matrix products D = alpha op(A) op(B) + beta C of bf16 or f32 operands, summed in f32,
// as work on libcuda's streams. Column-major with leading dimensions and strided batches. What the real
// library refuses and callers may get wrong is refused too.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

extern "C" int emulator_enqueue(void* stream, std::function<void()> action);

namespace {

enum Status { SUCCESS = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum Type { F32 = 0, BF16 = 14 };
constexpr int compute_32f = 68, first_compute_32f_fast = 74, last_compute_32f = 78;

struct Product { // cublasLtMatmulDesc
    int compute, scale_type;
    int pointer_mode = 0, transpose_a = 0, transpose_b = 0, transpose_c = 0, epilogue = 1;
};

struct Layout {
    int type, order = 0;
    std::uint64_t rows, columns;
    std::int64_t leading;
    int batches = 1;
    std::int64_t batch_stride = 0;
};

struct Preference {
    std::uint64_t workspace_bytes = 0;
    std::uint32_t reduction_schemes = ~0u;
    std::uint32_t alignments[4] = {256, 256, 256, 256}; // of A, B, C, D
};

struct Algorithm { // cublasLtMatmulAlgo_t: 64 bytes; all zero means "not from here"
    std::uint32_t magic, id, tile, split_k, alignments[4];
    std::uint64_t workspace_bytes;
    std::uint64_t rest[3];
};
static_assert(sizeof(Algorithm) == 64);
constexpr std::uint32_t magic = 0xe301a7ed;

struct Heuristic { // cublasLtMatmulHeuristicResult_t
    Algorithm algorithm;
    std::size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
};

int set(void* field, std::size_t field_bytes, const void* value, std::size_t bytes) {
    if (!value || bytes != field_bytes) return INVALID_VALUE;
    std::memcpy(field, value, bytes);
    return SUCCESS;
}

// ---- Whether a product is possible ----

int check(const Product& product, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    const bool fast = product.compute >= first_compute_32f_fast && product.compute <= last_compute_32f;
    if (product.compute != compute_32f && !fast) return NOT_SUPPORTED;
    if (product.scale_type != F32 || product.pointer_mode != 0 || product.transpose_c != 0 || product.epilogue != 1) return NOT_SUPPORTED;
    for (const Layout* layout : {&a, &b, &c, &d}) {
        if (layout->type != F32 && layout->type != BF16) return NOT_SUPPORTED;
        if (layout->order != 0) return NOT_SUPPORTED;
        if (layout->rows == 0 || layout->columns == 0 || layout->leading < std::int64_t(layout->rows)) return INVALID_VALUE;
        if (layout->batches != d.batches) return INVALID_VALUE;
    }
    if (a.type != b.type || c.type != d.type || (a.type == F32 && d.type != F32)) return NOT_SUPPORTED;
    const std::uint64_t m = product.transpose_a ? a.columns : a.rows, k = product.transpose_a ? a.rows : a.columns;
    const std::uint64_t n = product.transpose_b ? b.rows : b.columns, k_b = product.transpose_b ? b.columns : b.rows;
    if (k != k_b || d.rows != m || d.columns != n || c.rows != m || c.columns != n) return INVALID_VALUE;
    return SUCCESS;
}

// ---- The product itself ----

float widen(std::uint16_t bits) {
    const std::uint32_t wide = std::uint32_t(bits) << 16;
    float x;
    std::memcpy(&x, &wide, 4);
    return x;
}
std::uint16_t narrow(float x) { // to the nearest, ties to even
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return x != x ? 0x7fff : std::uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float load(const void* matrix, int type, std::size_t index) {
    return type == F32 ? static_cast<const float*>(matrix)[index] : widen(static_cast<const std::uint16_t*>(matrix)[index]);
}

// Panels: `height` rows of op(M), for each k next to each other, zeros beyond the last row.
template <int height>
void pack(const char* matrix, const Layout& layout, bool by_columns, std::size_t first, std::size_t rows, std::size_t k_begin,
          std::size_t k_end, float* out) {
    const std::size_t row_step = by_columns ? 1 : std::size_t(layout.leading), k_step = by_columns ? std::size_t(layout.leading) : 1;
    const std::size_t there = std::min(rows - first, std::size_t(height));
    const auto one = [&](auto* values) {
        const auto wide = [](auto x) {
            if constexpr (sizeof x == 4) return x;
            else return widen(x);
        };
        for (std::size_t k = k_begin; k < k_end; k++, out += height) {
            const auto* from = values + k * k_step + first * row_step;
            if (by_columns && there == height) {
                for (std::size_t i = 0; i < height; i++) out[i] = wide(from[i]); // the usual case, in vectors
            } else {
                for (std::size_t i = 0; i < height; i++) out[i] = i < there ? wide(from[i * row_step]) : 0;
            }
        }
    };
    if (layout.type == F32) one(reinterpret_cast<const float*>(matrix));
    else one(reinterpret_cast<const std::uint16_t*>(matrix));
}

typedef float Lanes __attribute__((vector_size(64)));
constexpr int tile_m = 32, tile_n = 6;
constexpr std::size_t block_m = 8 * tile_m, block_k = 384;

// sums[tile_n][tile_m] += the product of two panels
void multiply(const float* a, const float* b, std::size_t depth, float* sums) {
    Lanes sum[tile_n][2];
    std::memcpy(sum, sums, sizeof sum);
    for (std::size_t k = 0; k < depth; k++, a += tile_m, b += tile_n) {
        Lanes low, high;
        std::memcpy(&low, a, 64), std::memcpy(&high, a + 16, 64);
#pragma GCC unroll 6
        for (int j = 0; j < tile_n; j++) sum[j][0] += low * b[j], sum[j][1] += high * b[j];
    }
    std::memcpy(sums, sum, sizeof sum);
}

struct Operands {
    Layout a, b, c, d;
    bool transpose_a, transpose_b;
    float alpha, beta;
    const char *a_data, *b_data, *c_data;
    char* d_data;
};

void run_batch(const Operands& o, const char* a, const char* b, const char* c, char* d) {
    const std::size_t m = o.d.rows, n = o.d.columns, depth = o.transpose_a ? o.a.rows : o.a.columns;
    const std::size_t panels_n = (n + tile_n - 1) / tile_n;
    std::vector<float> packed_a(block_m * block_k), packed_b(panels_n * tile_n * block_k);
    std::vector<float> sums(((m + tile_m - 1) / tile_m) * tile_m * panels_n * tile_n); // tiles, those of one panel of A together
    for (std::size_t k = 0; k < depth; k += block_k) {
        const std::size_t k_end = std::min(k + block_k, depth), length = k_end - k;
        for (std::size_t panel = 0; panel < panels_n; panel++)
            pack<tile_n>(b, o.b, o.transpose_b, panel * tile_n, n, k, k_end, &packed_b[panel * tile_n * block_k]);
        for (std::size_t first = 0; first < m; first += block_m) {
            const std::size_t panels_m = (std::min(block_m, m - first) + tile_m - 1) / tile_m;
            for (std::size_t panel = 0; panel < panels_m; panel++)
                pack<tile_m>(a, o.a, !o.transpose_a, first + panel * tile_m, m, k, k_end, &packed_a[panel * tile_m * block_k]);
            for (std::size_t j = 0; j < panels_n; j++)
                for (std::size_t i = 0; i < panels_m; i++)
                    multiply(&packed_a[i * tile_m * block_k], &packed_b[j * tile_n * block_k], length,
                             &sums[((first / tile_m + i) * panels_n + j) * tile_m * tile_n]);
        }
    }
    for (std::size_t column = 0; column < n; column++) {
        for (std::size_t first = 0; first < m; first += tile_m) {
            const float* tile = &sums[(first / tile_m * panels_n + column / tile_n) * tile_m * tile_n + column % tile_n * tile_m];
            const std::size_t c_at = std::size_t(o.c.leading) * column + first, d_at = std::size_t(o.d.leading) * column + first;
            for (std::size_t i = 0; i < std::min(m - first, std::size_t(tile_m)); i++) {
                float value = o.alpha * tile[i];
                if (o.beta != 0) value += o.beta * load(c, o.c.type, c_at + i);
                if (o.d.type == F32) reinterpret_cast<float*>(d)[d_at + i] = value;
                else reinterpret_cast<std::uint16_t*>(d)[d_at + i] = narrow(value);
            }
        }
    }
}

void run(const Operands& o) {
    const auto part = [](const Layout& layout, int batch) { return layout.batch_stride * batch * (layout.type == F32 ? 4 : 2); };
    for (int batch = 0; batch < o.d.batches; batch++)
        run_batch(o, o.a_data + part(o.a, batch), o.b_data + part(o.b, batch), o.c_data + part(o.c, batch), o.d_data + part(o.d, batch));
}

} // namespace

API int cublasLtCreate(void** handle) { return *handle = new char, SUCCESS; }
API int cublasLtDestroy(void* handle) {
    delete static_cast<char*>(handle);
    return SUCCESS;
}
API std::size_t cublasLtGetVersion() { return 130000; }
API std::size_t cublasLtGetCudartVersion() { return 13000; }
API const char* cublasLtGetStatusName(int status) {
    switch (status) {
    case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "CUBLAS_STATUS unknown";
}
API const char* cublasLtGetStatusString(int status) { return cublasLtGetStatusName(status); }

API int cublasLtMatmulDescCreate(Product** product, int compute, int scale_type) { return *product = new Product{compute, scale_type}, SUCCESS; }
API int cublasLtMatmulDescDestroy(Product* product) {
    delete product;
    return SUCCESS;
}
API int cublasLtMatmulDescSetAttribute(Product* product, int attribute, const void* value, std::size_t bytes) {
    switch (attribute) {
    case 0: return set(&product->compute, 4, value, bytes);
    case 1: return set(&product->scale_type, 4, value, bytes);
    case 2: return set(&product->pointer_mode, 4, value, bytes);
    case 3: return set(&product->transpose_a, 4, value, bytes);
    case 4: return set(&product->transpose_b, 4, value, bytes);
    case 5: return set(&product->transpose_c, 4, value, bytes);
    case 7: return set(&product->epilogue, 4, value, bytes);
    case 15: return bytes == 4 ? SUCCESS : INVALID_VALUE; // how many multiprocessors to aim at
    }
    return INVALID_VALUE;
}

API int cublasLtMatrixLayoutCreate(Layout** layout, int type, std::uint64_t rows, std::uint64_t columns, std::int64_t leading) {
    *layout = new Layout;
    (*layout)->type = type, (*layout)->rows = rows, (*layout)->columns = columns, (*layout)->leading = leading;
    return SUCCESS;
}
API int cublasLtMatrixLayoutDestroy(Layout* layout) {
    delete layout;
    return SUCCESS;
}
API int cublasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* value, std::size_t bytes) {
    switch (attribute) {
    case 0: return set(&layout->type, 4, value, bytes);
    case 1: return set(&layout->order, 4, value, bytes);
    case 2: return set(&layout->rows, 8, value, bytes);
    case 3: return set(&layout->columns, 8, value, bytes);
    case 4: return set(&layout->leading, 8, value, bytes);
    case 5: return set(&layout->batches, 4, value, bytes);
    case 6: return set(&layout->batch_stride, 8, value, bytes);
    }
    return INVALID_VALUE;
}

API int cublasLtMatmulPreferenceCreate(Preference** preference) { return *preference = new Preference, SUCCESS; }
API int cublasLtMatmulPreferenceDestroy(Preference* preference) {
    delete preference;
    return SUCCESS;
}
API int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, std::size_t bytes) {
    switch (attribute) {
    case 1: return set(&preference->workspace_bytes, 8, value, bytes);
    case 3: return set(&preference->reduction_schemes, 4, value, bytes);
    case 5: case 6: case 7: case 8: return set(&preference->alignments[attribute - 5], 4, value, bytes);
    case 0: case 9: case 12: return SUCCESS; // hints
    }
    return INVALID_VALUE;
}

// Two ways that differ in what they ask for, so that a caller's choosing, caching and workspace are tried.
API int cublasLtMatmulAlgoGetHeuristic(void*, const Product* product, const Layout* a, const Layout* b, const Layout* c, const Layout* d,
                                       const Preference* preference, int wanted, Heuristic* results, int* found) {
    *found = 0;
    if (wanted < 1) return INVALID_VALUE;
    if (const int status = check(*product, *a, *b, *c, *d)) return status;
    for (std::uint32_t id = 0; id < 2 && *found < wanted; id++) {
        const std::uint64_t workspace = std::uint64_t(id) * (1 << 20);
        if (workspace > preference->workspace_bytes) break;
        Heuristic& result = results[(*found)++];
        result = {};
        result.algorithm = {magic, id, 20 - id, 1, {}, workspace, {}};
        std::copy_n(preference->alignments, 4, result.algorithm.alignments);
        result.workspace_bytes = workspace;
        result.waves = 1;
    }
    return SUCCESS;
}
API int cublasLtMatmulAlgoCheck(void*, const Product* product, const Layout* a, const Layout* b, const Layout* c, const Layout* d,
                                const Algorithm* algorithm, Heuristic* result) {
    if (algorithm->magic != magic) return INVALID_VALUE;
    if (const int status = check(*product, *a, *b, *c, *d)) return status;
    const Algorithm kept = *algorithm; // may be the result's own
    *result = {};
    result->algorithm = kept, result->workspace_bytes = kept.workspace_bytes, result->waves = 1;
    return SUCCESS;
}
API int cublasLtMatmulAlgoConfigGetAttribute(const Algorithm* algorithm, int attribute, void* value, std::size_t bytes, std::size_t* written) {
    const std::uint32_t values[] = {algorithm->id, algorithm->tile, algorithm->split_k, 0, 0, 0, 0, 0, 0};
    if (attribute < 0 || attribute > 8 || bytes > 4) return INVALID_VALUE;
    if (written) *written = bytes;
    std::memcpy(value, &values[attribute], bytes);
    return SUCCESS;
}

API int cublasLtMatmul(void*, const Product* product, const float* alpha, const void* a, const Layout* a_layout, const void* b,
                       const Layout* b_layout, const float* beta, const void* c, const Layout* c_layout, void* d, const Layout* d_layout,
                       const Algorithm* algorithm, void* workspace, std::size_t workspace_bytes, void* stream) {
    if (!alpha || !beta || !a || !b || !d || (!c && *beta != 0)) return INVALID_VALUE;
    if (const int status = check(*product, *a_layout, *b_layout, *c_layout, *d_layout)) return status;
    if (algorithm) {
        if (algorithm->magic != magic) return INVALID_VALUE;
        if (algorithm->workspace_bytes > workspace_bytes || (algorithm->workspace_bytes && !workspace)) return INVALID_VALUE;
        const void* pointers[] = {a, b, c, d};
        for (int i = 0; i < 4; i++)
            if (reinterpret_cast<std::uintptr_t>(pointers[i]) % algorithm->alignments[i]) return INVALID_VALUE;
    }
    const Operands operands{*a_layout, *b_layout, *c_layout, *d_layout, product->transpose_a != 0, product->transpose_b != 0, *alpha, *beta,
                            static_cast<const char*>(a), static_cast<const char*>(b), static_cast<const char*>(c), static_cast<char*>(d)};
    // A workspace is scratch: whoever keeps something in it loses it.
    const std::size_t spoilt = algorithm ? std::size_t(algorithm->workspace_bytes) : 0;
    const int status = emulator_enqueue(stream, [=] {
        if (spoilt) std::memset(workspace, 0xff, spoilt);
        run(operands);
    });
    return status ? EXECUTION_FAILED : SUCCESS;
}
