// Device memory and pinned host memory: every allocation in a mapping of its own between two guard pages,
// filled with 0xff.

#pragma once
#include <cstddef>
#include <string>

namespace emulator {

// Whether all of it lies in one allocation of the device.
bool is_device(const void* address, std::size_t bytes);
// Whether it is host memory that copies may read and write later.
bool is_pinned(const void* address, std::size_t bytes);
// What lies at an address that was touched wrongly, as an end of a sentence.
std::string describe_address(const void* address, const char* shared_end, const char* stacks, const char* stacks_end);

} // namespace emulator
