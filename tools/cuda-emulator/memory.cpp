// libcuda.so.1: memory and copies. What kernels touch beyond an allocation's ends lies on a guard page.

#include "memory.h"
#include "driver.h"
#include "streams.h"
#include <algorithm>
#include <cstring>
#include <map>
#include <sys/mman.h>

namespace emulator {
namespace {

constexpr std::size_t page = 4096;
// Larger allocations are filled only so far, so that they cost no memory before they are used.
constexpr std::size_t most_filled = std::size_t(256) << 20;

struct Allocation {
    std::size_t bytes;
    char* mapping;
    std::size_t mapping_bytes;
};
using Allocations = std::map<const char*, Allocation>; // by their first byte

Allocations device, pinned;
std::size_t device_bytes = 0;

// The end lies on the guard page, but for what alignment to 256 bytes takes.
char* allocate(Allocations& allocations, std::size_t bytes) {
    const std::size_t rounded = (bytes + 255) / 256 * 256, pages = (rounded + page - 1) / page * page;
    void* mapping = mmap(nullptr, pages + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) return nullptr;
    char* begin = static_cast<char*>(mapping);
    if (mprotect(begin + page, pages, PROT_READ | PROT_WRITE) != 0) return munmap(mapping, pages + 2 * page), nullptr;
    char* address = begin + page + pages - rounded;
    std::memset(address, 0xff, std::min(rounded, most_filled));
    allocations[address] = {bytes, begin, pages + 2 * page};
    return address;
}

bool release(Allocations& allocations, void* address) {
    const auto found = allocations.find(static_cast<char*>(address));
    if (found == allocations.end()) return false;
    munmap(found->second.mapping, found->second.mapping_bytes);
    allocations.erase(found);
    return true;
}

bool holds(const Allocations& allocations, const void* address, std::size_t bytes) {
    const auto* begin = static_cast<const char*>(address);
    auto after = allocations.upper_bound(begin);
    if (after == allocations.begin()) return false;
    --after;
    return begin + bytes <= after->first + after->second.bytes;
}

} // namespace

bool is_device(const void* address, std::size_t bytes) { return holds(device, address, bytes); }
bool is_pinned(const void* address, std::size_t bytes) { return holds(pinned, address, bytes); }

std::string describe_address(const void* where, const char* shared_end, const char* stacks, const char* stacks_end) {
    const auto* address = static_cast<const char*>(where);
    if (address >= shared_end && address < shared_end + page)
        return ", " + std::to_string(address - shared_end) + " bytes behind the block's dynamic shared memory";
    if (address >= stacks && address < stacks_end) return ", the end of the thread's stack";
    for (const auto& [begin, allocation] : device) {
        if (address < allocation.mapping || address >= allocation.mapping + allocation.mapping_bytes) continue;
        const std::string of = " an allocation of " + std::to_string(allocation.bytes) + " bytes of the device";
        if (address < begin) return ", " + std::to_string(begin - address) + " bytes before" + of;
        return ", " + std::to_string(address - begin - std::ptrdiff_t(allocation.bytes)) + " bytes behind" + of;
    }
    return "";
}

} // namespace emulator

using namespace emulator;

namespace {
// A device's address as the driver's calls have it.
using Device = std::uintptr_t;
char* at(Device address) { return reinterpret_cast<char*>(address); }

Work copy(void* to, const void* from, std::size_t bytes) {
    return {MEMCPY, [=] { std::memmove(to, from, bytes); }, nullptr};
}
template <class Value> Work fill(Device to, Value value, std::size_t count) {
    return {MEMSET, [=] { std::fill_n(reinterpret_cast<Value*>(to), count, value); }, nullptr};
}
} // namespace

API cuMemAlloc_v2(Device* address, std::size_t bytes) {
    IN_CONTEXT;
    if (bytes == 0) return INVALID_VALUE;
    if (const int result = unsafe_call()) return result;
    if (device_bytes + bytes > setting("EMULATED_MEMORY_BYTES", std::uint64_t(4) << 30)) return OUT_OF_MEMORY;
    char* memory = allocate(device, bytes);
    if (!memory) return OUT_OF_MEMORY;
    device_bytes += bytes;
    return *address = reinterpret_cast<Device>(memory), SUCCESS;
}
API cuMemFree_v2(Device address) {
    IN_CONTEXT;
    if (address == 0) return SUCCESS;
    if (const int result = unsafe_call()) return result;
    const auto found = device.find(at(address));
    if (found == device.end()) return INVALID_VALUE;
    run_everything(); // as the real one waits for the device
    device_bytes -= found->second.bytes;
    release(device, at(address));
    return SUCCESS;
}
API cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
    IN_CONTEXT;
    *total = setting("EMULATED_MEMORY_BYTES", std::uint64_t(4) << 30);
    *free = *total - std::min(*total, device_bytes);
    return SUCCESS;
}
API cuMemHostAlloc(void** address, std::size_t bytes, unsigned) {
    IN_CONTEXT;
    if (bytes == 0) return INVALID_VALUE;
    if (const int result = unsafe_call()) return result;
    *address = allocate(pinned, bytes);
    return *address ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemAllocHost_v2(void** address, std::size_t bytes) { return cuMemHostAlloc(address, bytes, 0); }
API cuMemFreeHost(void* address) {
    IN_CONTEXT;
    if (const int result = unsafe_call()) return result;
    run_everything();
    return release(pinned, address) ? SUCCESS : INVALID_VALUE;
}

// ---- Copies that wait ----
API cuMemcpyHtoD_v2(Device to, const void* from, std::size_t bytes) {
    IN_CONTEXT;
    return is_device(at(to), bytes) ? run_now(copy(at(to), from, bytes)) : INVALID_VALUE;
}
API cuMemcpyDtoH_v2(void* to, Device from, std::size_t bytes) {
    IN_CONTEXT;
    return is_device(at(from), bytes) ? run_now(copy(to, at(from), bytes)) : INVALID_VALUE;
}
API cuMemcpyDtoD_v2(Device to, Device from, std::size_t bytes) {
    IN_CONTEXT;
    return is_device(at(to), bytes) && is_device(at(from), bytes) ? run_now(copy(at(to), at(from), bytes)) : INVALID_VALUE;
}
API cuMemsetD8_v2(Device to, unsigned char value, std::size_t count) {
    IN_CONTEXT;
    return is_device(at(to), count) ? run_now(fill(to, value, count)) : INVALID_VALUE;
}
API cuMemsetD32_v2(Device to, unsigned value, std::size_t count) {
    IN_CONTEXT;
    return to % 4 == 0 && is_device(at(to), 4 * count) ? run_now(fill(to, value, count)) : INVALID_VALUE;
}

// ---- Copies on a stream. Memory that is not pinned goes through a buffer of the driver's: read at once, and
// written before the return. ----
API cuMemcpyHtoDAsync_v2(Device to, const void* from, std::size_t bytes, Stream* stream) {
    IN_CONTEXT;
    if (!is_device(at(to), bytes)) return INVALID_VALUE;
    const auto found = find_stream(stream);
    if (!found) return INVALID_HANDLE;
    if (is_pinned(from, bytes) || found->capture) return enqueue(stream, copy(at(to), from, bytes));
    const auto* begin = static_cast<const char*>(from);
    return enqueue(stream, {MEMCPY, [=, kept = std::vector<char>(begin, begin + bytes)] { std::memcpy(at(to), kept.data(), bytes); }, nullptr});
}
API cuMemcpyDtoHAsync_v2(void* to, Device from, std::size_t bytes, Stream* stream) {
    IN_CONTEXT;
    if (!is_device(at(from), bytes)) return INVALID_VALUE;
    if (const int result = enqueue(stream, copy(to, at(from), bytes))) return result;
    const auto found = find_stream(stream);
    if (!is_pinned(to, bytes) && !found->capture) run_until(*found, ~std::uint64_t(0));
    return SUCCESS;
}
API cuMemcpyDtoDAsync_v2(Device to, Device from, std::size_t bytes, Stream* stream) {
    IN_CONTEXT;
    if (!is_device(at(to), bytes) || !is_device(at(from), bytes)) return INVALID_VALUE;
    return enqueue(stream, copy(at(to), at(from), bytes));
}
API cuMemsetD8Async(Device to, unsigned char value, std::size_t count, Stream* stream) {
    IN_CONTEXT;
    return is_device(at(to), count) ? enqueue(stream, fill(to, value, count)) : INVALID_VALUE;
}
API cuMemsetD32Async(Device to, unsigned value, std::size_t count, Stream* stream) {
    IN_CONTEXT;
    return to % 4 == 0 && is_device(at(to), 4 * count) ? enqueue(stream, fill(to, value, count)) : INVALID_VALUE;
}
