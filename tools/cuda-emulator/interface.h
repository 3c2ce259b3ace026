// What the emulated machine (libcuda.so.1) and a kernel compiled for it know of each other. Its text stands
// before that of machine.h in every program, and the machine itself includes it: one text, so that both
// agree.

#include <cstddef>

namespace emulator {

struct Triple {
    unsigned x, y, z;
};

// A thing that the lanes of a warp do together. Its address is its identity: lanes that meet must meet in the
// same one.
struct Collective {
    const char* name;
    // Gets each lane's operand, null for lanes that take no part, and writes the lanes' results into them.
    void (*compute)(void* const operands[32]);
    // Whether every lane of the warp must be there, as the matrix instructions demand.
    bool whole_warp;
};

// Filled by the machine, read by kernels. The thread's part changes whenever the machine goes on with another
// thread.
struct Machine {
    Triple thread_index, block_index, block_dim, grid_dim;
    unsigned lane;
    char* dynamic_shared;
    unsigned (*barrier)(bool predicate); // of the block; how many threads had a true predicate
    void (*collective)(const Collective* what, unsigned mask, void* operand);
    void (*require_shared)(const void* address, std::size_t bytes, const char* what); // within shared memory, and aligned
    void (*copy_async)(void* shared, const void* global, bool valid);
    void (*copy_async_commit)();
    void (*copy_async_wait)(unsigned groups_that_may_be_under_way);
    void (*fail)(const char* what, const char* file, int line);
};

// A kernel as its module lists it.
struct Kernel {
    const char* name;
    void (*call)(void** parameters);
    const std::size_t* parameter_bytes; // ends with 0
    const Kernel* next;
};

} // namespace emulator
