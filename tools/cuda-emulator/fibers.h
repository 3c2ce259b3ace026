// Runs a kernel: its blocks one after another, a block's threads as fibers that change only where they wait
// for each other.

#pragma once
#include "interface.h"
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace emulator {

// A kernel with everything it needs, its parameters copied.
struct Launch {
    const Kernel* kernel;
    Triple grid, block;
    std::size_t dynamic_shared_bytes;
    std::vector<std::pair<char*, std::size_t>> static_shared; // of the whole module
    std::vector<std::vector<char>> parameters;
};

// What modules are connected to.
const Machine* shared_machine();

void run(const Launch& launch);

} // namespace emulator
