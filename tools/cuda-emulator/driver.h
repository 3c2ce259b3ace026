// What the parts of libcuda share: results with NVIDIA's numbers, the lock, and whether a call may be made
// now.

#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>

#define API extern "C" __attribute__((visibility("default"))) int

namespace emulator {

enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    NOT_SUPPORTED = 801,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    STREAM_CAPTURE_INVALIDATED = 901,
    STREAM_CAPTURE_UNMATCHED = 903,
    STREAM_CAPTURE_ISOLATION = 905,
    STREAM_CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
};

// Calls come from many threads and are served one at a time, kernels included.
extern std::recursive_mutex lock;
bool has_context();
// That a block may have, opted in.
int max_shared_bytes();
// A number from the environment.
std::uint64_t setting(const char* name, std::uint64_t otherwise);

} // namespace emulator

// Opens a call that needs a context.
#define IN_CONTEXT                                                                                                              \
    const std::lock_guard<std::recursive_mutex> guard(emulator::lock);                                                          \
    if (!emulator::has_context()) return emulator::INVALID_CONTEXT
