// Rows of a table by their ids, and the table's gradient. Many tokens have the same id, and their gradients
// must be added in one order always: ids are sorted with their places (a stable radix sort, eight bits a
// pass), and runs of equal ids are added up.

struct Embedding {
    const unsigned* ids;
    Matrix table;
    Matrix out;
};

template <int W>
__device__ __forceinline__ void embedding_of(const Embedding& p) {
    int width = p.out.columns / W;
    i64 count = (i64)p.out.rows * width;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x) {
        float x[W];
        int column = (int)(i % width) * W;
        read(p.table, p.ids[i / width], column, x);
        write(p.out, i / width, column, x);
    }
}

KERNEL void embedding_8(Embedding p) { embedding_of<8>(p); }
EXPORT(embedding_8)
KERNEL void embedding_1(Embedding p) { embedding_of<1>(p); }
EXPORT(embedding_1)

// One pass over one digit of the keys. A block has ITEMS of them and a thread for each of the 256 values that
// a digit can take.
struct SortPass {
    const unsigned* keys;
    // Where each key came from; null: from its own place.
    const unsigned* places;
    unsigned* keys_out;
    unsigned* places_out;
    // (256, blocks): how often each digit is in each block, then where the first of them goes.
    unsigned* counts;
    int count;
    int shift;
    int blocks;
    int unused;
};

enum { ITEMS = 1024 };

__device__ __forceinline__ int load_digits(const SortPass& p, unsigned char* digits) {
    int first = blockIdx.x * ITEMS, here = min(p.count - first, (int)ITEMS);
    for (int i = threadIdx.x; i < here; i += blockDim.x) digits[i] = (p.keys[first + i] >> p.shift) & 255;
    __syncthreads();
    return here;
}

KERNEL void sort_count(SortPass p) {
    __shared__ unsigned char digits[ITEMS];
    int here = load_digits(p, digits);
    unsigned count = 0;
    for (int i = 0; i < here; i++) count += digits[i] == threadIdx.x;
    p.counts[threadIdx.x * p.blocks + blockIdx.x] = count;
}
EXPORT(sort_count)

// Exclusive prefix sums of `counts` in one block of 1024 threads.
KERNEL void sort_scan(SortPass p) {
    __shared__ unsigned sums[1024];
    int length = 256 * p.blocks, share = (length + 1023) / 1024, first = threadIdx.x * share;
    int last = min(first + share, length);
    unsigned sum = 0;
    for (int i = first; i < last; i++) sum += p.counts[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int step = 1; step < 1024; step *= 2) {
        unsigned before = (int)threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
        __syncthreads();
        sums[threadIdx.x] += before;
        __syncthreads();
    }
    unsigned next = sums[threadIdx.x] - sum;
    for (int i = first; i < last; i++) {
        unsigned count = p.counts[i];
        p.counts[i] = next;
        next += count;
    }
}
EXPORT(sort_scan)

KERNEL void sort_scatter(SortPass p) {
    __shared__ unsigned char digits[ITEMS];
    int here = load_digits(p, digits), first = blockIdx.x * ITEMS;
    unsigned next = p.counts[threadIdx.x * p.blocks + blockIdx.x];
    for (int i = 0; i < here; i++) {
        if (digits[i] != threadIdx.x) continue;
        p.keys_out[next] = p.keys[first + i];
        p.places_out[next] = p.places ? p.places[first + i] : (unsigned)(first + i);
        next++;
    }
}
EXPORT(sort_scatter)

struct EmbeddingBackward {
    const unsigned* ids;
    const unsigned* places;
    Matrix dout;
    Matrix dtable;
    // (windows, width) of f32: sums of a run that began in an earlier window, and of one that goes on in the
    // next.
    Matrix head;
    Matrix tail;
    int count;
    int unused;
};

enum { WINDOW = 32 };

// Adds up the runs of a window of WINDOW sorted ids. A run that lies in one window goes to the table, pieces
// of others aside.
template <int W>
__device__ __forceinline__ void embedding_runs_of(const EmbeddingBackward& p) {
    __shared__ unsigned ids[WINDOW], places[WINDOW];
    int first = blockIdx.x * WINDOW, here = min(p.count - first, (int)WINDOW);
    if ((int)threadIdx.x < here) {
        ids[threadIdx.x] = p.ids[first + threadIdx.x];
        places[threadIdx.x] = p.places[first + threadIdx.x];
    }
    __syncthreads();
    bool continued = first > 0 && p.ids[first - 1] == ids[0];
    bool goes_on = first + here < p.count && p.ids[first + here] == ids[here - 1];
    for (int column = threadIdx.x * W; column < p.dout.columns; column += blockDim.x * W) {
        float sum[W];
        for (int j = 0; j < W; j++) sum[j] = 0.0f;
        bool head = continued;
        for (int i = 0; i < here; i++) {
            float x[W];
            read(p.dout, places[i], column, x);
            for (int j = 0; j < W; j++) sum[j] += x[j];
            bool last = i == here - 1;
            if (!last && ids[i + 1] == ids[i]) continue;
            if (head) {
                write(p.head, blockIdx.x, column, sum);
            } else if (last && goes_on) {
                write(p.tail, blockIdx.x, column, sum);
            } else {
                read(p.dtable, ids[i], column, x);
                for (int j = 0; j < W; j++) x[j] += sum[j];
                write(p.dtable, ids[i], column, x);
            }
            head = false;
            for (int j = 0; j < W; j++) sum[j] = 0.0f;
        }
    }
}

KERNEL void embedding_runs_8(EmbeddingBackward p) { embedding_runs_of<8>(p); }
EXPORT(embedding_runs_8)
KERNEL void embedding_runs_1(EmbeddingBackward p) { embedding_runs_of<1>(p); }
EXPORT(embedding_runs_1)

// Puts together the run that begins in a window and goes on in the next.
template <int W>
__device__ __forceinline__ void embedding_pieces_of(const EmbeddingBackward& p) {
    int end = (blockIdx.x + 1) * WINDOW;
    if (end >= p.count) return;
    unsigned id = p.ids[end - 1];
    bool continued = blockIdx.x > 0 && p.ids[end - WINDOW] == id && p.ids[end - WINDOW - 1] == id;
    if (p.ids[end] != id || continued) return;
    for (int column = threadIdx.x * W; column < p.dout.columns; column += blockDim.x * W) {
        float sum[W], x[W];
        read(p.tail, blockIdx.x, column, sum);
        for (int window = blockIdx.x + 1; window * WINDOW < p.count && p.ids[window * WINDOW] == id; window++) {
            read(p.head, window, column, x);
            for (int j = 0; j < W; j++) sum[j] += x[j];
        }
        read(p.dtable, id, column, x);
        for (int j = 0; j < W; j++) x[j] += sum[j];
        write(p.dtable, id, column, x);
    }
}

KERNEL void embedding_pieces_8(EmbeddingBackward p) { embedding_pieces_of<8>(p); }
EXPORT(embedding_pieces_8)
KERNEL void embedding_pieces_1(EmbeddingBackward p) { embedding_pieces_of<1>(p); }
EXPORT(embedding_pieces_1)
