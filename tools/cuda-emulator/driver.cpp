// libcuda.so.1: the device, its one context, and the names of errors.

#include "driver.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace emulator {

std::recursive_mutex lock;

namespace {
char primary_context; // a context is nothing but an address
thread_local void* current_context = nullptr;

struct Capability {
    int major = 9, minor = 0;
};
Capability capability() {
    Capability found;
    if (const char* text = std::getenv("EMULATED_CAPABILITY")) std::sscanf(text, "%d.%d", &found.major, &found.minor);
    return found;
}

struct Name {
    int code;
    const char *name, *text;
};
constexpr Name names[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {STREAM_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"},
    {STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {STREAM_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
};
} // namespace

bool has_context() { return current_context != nullptr; }

int max_shared_bytes() {
    const Capability sm = capability();
    return sm.major >= 9 ? 227 << 10 : sm.minor == 0 ? 163 << 10 : 99 << 10;
}

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

} // namespace emulator

using namespace emulator;

API cuInit(unsigned flags) { return flags == 0 ? SUCCESS : INVALID_VALUE; }
API cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
API cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
API cuDeviceGet(int* device, int ordinal) {
    if (ordinal != 0) return INVALID_DEVICE;
    return *device = 0, SUCCESS;
}
API cuDeviceGetName(char* name, int bytes, int device) {
    if (device != 0) return INVALID_DEVICE;
    std::snprintf(name, std::size_t(bytes), "Emulated GPU");
    return SUCCESS;
}
API cuDeviceGetUuid_v2(char uuid[16], int device) {
    if (device != 0) return INVALID_DEVICE;
    std::memcpy(uuid, "emulated gpu\0\0\0", 16);
    return SUCCESS;
}
API cuDeviceGetUuid(char uuid[16], int device) { return cuDeviceGetUuid_v2(uuid, device); }
API cuDeviceTotalMem_v2(std::size_t* bytes, int device) {
    if (device != 0) return INVALID_DEVICE;
    return *bytes = setting("EMULATED_MEMORY_BYTES", std::uint64_t(4) << 30), SUCCESS;
}

// The numbers are those of CUdevice_attribute.
API cuDeviceGetAttribute(int* value, int attribute, int device) {
    if (device != 0) return INVALID_DEVICE;
    const Capability sm = capability();
    const bool large = sm.minor == 0; // 8.0 and 9.0 against 8.6 and 8.9
    switch (attribute) {
    case 1: *value = 1024; break;                                   // threads a block
    case 2: case 3: *value = 1024; break;                           // block x, y
    case 4: *value = 64; break;                                     // block z
    case 5: *value = 2147483647; break;                             // grid x
    case 6: case 7: *value = 65535; break;                          // grid y, z
    case 8: *value = 49152; break;                                  // shared memory a block
    case 10: *value = 32; break;                                    // warp
    case 12: case 82: *value = 65536; break;                        // registers a block, a multiprocessor
    case 13: *value = 1980000; break;                               // clock, kHz
    case 16: *value = 4; break;                                     // multiprocessors
    case 31: case 41: *value = 1; break;                            // concurrent kernels, unified addressing
    case 36: *value = 2619000; break;                               // memory clock, kHz
    case 37: *value = 5120; break;                                  // memory bus, bits
    case 38: *value = 50 << 20; break;                              // L2
    case 39: *value = large ? 2048 : 1536; break;                   // threads a multiprocessor
    case 75: *value = sm.major; break;
    case 76: *value = sm.minor; break;
    case 81: *value = max_shared_bytes() + 1024; break;             // shared memory a multiprocessor
    case 97: *value = max_shared_bytes(); break;                    // shared memory a block, opted in
    case 106: *value = 32; break;                                   // blocks a multiprocessor
    case 111: *value = 1024; break;                                 // shared memory that the system keeps
    default: *value = 0;                                            // what is not emulated is not there: pools, managed memory…
    }
    return SUCCESS;
}

API cuDevicePrimaryCtxRetain(void** context, int device) {
    if (device != 0) return INVALID_DEVICE;
    return *context = &primary_context, SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int device) { return device == 0 ? SUCCESS : INVALID_DEVICE; }
API cuCtxSetCurrent(void* context) {
    if (context && context != &primary_context) return INVALID_CONTEXT;
    return current_context = context, SUCCESS;
}
API cuCtxGetCurrent(void** context) { return *context = current_context, SUCCESS; }
API cuCtxGetDevice(int* device) {
    if (!has_context()) return INVALID_CONTEXT;
    return *device = 0, SUCCESS;
}
API cuCtxGetStreamPriorityRange(int* least, int* greatest) { return *least = 0, *greatest = -5, SUCCESS; }

API cuGetErrorName(int error, const char** name) {
    for (const Name& known : names)
        if (known.code == error) return *name = known.name, SUCCESS;
    return *name = nullptr, INVALID_VALUE;
}
API cuGetErrorString(int error, const char** text) {
    for (const Name& known : names)
        if (known.code == error) return *text = known.text, SUCCESS;
    return *text = nullptr, INVALID_VALUE;
}
