// A kernel's launch as the driver's calls describe it, checked and copied.

#pragma once
#include "fibers.h"
#include <memory>

namespace emulator {

struct Module;

struct Function {
    const Kernel* kernel;
    const Module* module;
    int max_dynamic_shared_bytes = 48 * 1024;
};

// CUDA_KERNEL_NODE_PARAMS_v2.
struct KernelNodeParameters {
    Function* function;
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, dynamic_shared_bytes;
    void** parameters;
    void** extra;
    void* kernel;
    void* context;
};

// The result that a call with these parameters has; fills `launch` where it is SUCCESS.
int prepare(const KernelNodeParameters& parameters, std::shared_ptr<const Launch>& launch);

} // namespace emulator
