// libcuda.so.1: modules, their functions, and launches. A module is the shared library that the emulated
// NVRTC made.

#include "modules.h"
#include "driver.h"
#include "streams.h"
#include "text.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <map>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

namespace emulator {

struct Module {
    void* library = nullptr;
    int file = -1;
    std::map<std::string, Function> functions;
    std::vector<std::pair<char*, std::size_t>> static_shared;
    ~Module() {
        if (library) dlclose(library);
        if (file >= 0) close(file);
    }
};

int prepare(const KernelNodeParameters& p, std::shared_ptr<const Launch>& launch) {
    if (!p.function) return INVALID_HANDLE;
    const Function& function = *p.function;
    const auto within = [](unsigned n, unsigned limit) { return n >= 1 && n <= limit; };
    if (!within(p.grid_x, 2147483647) || !within(p.grid_y, 65535) || !within(p.grid_z, 65535)) return INVALID_VALUE;
    if (!within(p.block_x, 1024) || !within(p.block_y, 1024) || !within(p.block_z, 64)) return INVALID_VALUE;
    if (p.block_x * p.block_y * p.block_z > 1024) return INVALID_VALUE;
    if (p.dynamic_shared_bytes > unsigned(function.max_dynamic_shared_bytes)) return INVALID_VALUE;
    if (p.extra) return NOT_SUPPORTED;
    auto made = std::make_shared<Launch>();
    made->kernel = function.kernel;
    made->grid = {p.grid_x, p.grid_y, p.grid_z};
    made->block = {p.block_x, p.block_y, p.block_z};
    made->dynamic_shared_bytes = p.dynamic_shared_bytes;
    made->static_shared = function.module->static_shared;
    for (std::size_t i = 0; function.kernel->parameter_bytes[i] != 0; i++) {
        if (!p.parameters) return INVALID_VALUE;
        const char* value = static_cast<const char*>(p.parameters[i]);
        made->parameters.emplace_back(value, value + function.kernel->parameter_bytes[i]);
    }
    launch = std::move(made);
    return SUCCESS;
}

} // namespace emulator

using namespace emulator;

API cuModuleLoadData(Module** handle, const void* image) {
    IN_CONTEXT;
    if (const int result = unsafe_call()) return result;
    const auto* header = static_cast<const Elf64_Ehdr*>(image);
    if (std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return INVALID_IMAGE;
    if (header->e_machine != EM_X86_64) return NO_BINARY_FOR_GPU; // a real cubin
    const std::size_t bytes = header->e_shoff + std::size_t(header->e_shnum) * header->e_shentsize;
    const auto* base = static_cast<const char*>(image);

    auto module = std::make_unique<Module>();
    // The file stays open as long as the module, so that no other module has its name.
    module->file = memfd_create("emulated-module", MFD_CLOEXEC);
    if (module->file < 0 || write(module->file, image, bytes) != ssize_t(bytes)) return OUT_OF_MEMORY;
    const std::string path = "/proc/self/fd/" + std::to_string(module->file);
    module->library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!module->library) {
        std::fprintf(stderr, "emulator: %s\n", dlerror());
        return INVALID_IMAGE;
    }
    const auto connect = reinterpret_cast<const Kernel* (*)(unsigned long long, const Machine*)>(dlsym(module->library, "emulated_connect"));
    const Kernel* kernels = connect ? connect(text_version(), shared_machine()) : nullptr;
    if (!kernels) return INVALID_IMAGE; // without kernels, or of another state of the emulator
    for (const Kernel* kernel = kernels; kernel; kernel = kernel->next) {
        module->functions[kernel->name] = {kernel, module.get()};
    }
    const auto* map = static_cast<const link_map*>(module->library);
    const auto* sections = reinterpret_cast<const Elf64_Shdr*>(base + header->e_shoff);
    const char* names = base + sections[header->e_shstrndx].sh_offset;
    for (unsigned i = 0; i < header->e_shnum; i++) {
        if (std::strcmp(names + sections[i].sh_name, "emulated_shared") == 0) {
            module->static_shared.emplace_back(reinterpret_cast<char*>(map->l_addr + sections[i].sh_addr), sections[i].sh_size);
        }
    }
    *handle = module.release();
    return SUCCESS;
}
API cuModuleLoadDataEx(Module** handle, const void* image, unsigned, void*, void**) { return cuModuleLoadData(handle, image); }
API cuModuleUnload(Module* module) {
    IN_CONTEXT;
    if (const int result = unsafe_call()) return result;
    run_everything();
    delete module;
    return SUCCESS;
}
API cuModuleGetFunction(Function** function, Module* module, const char* name) {
    IN_CONTEXT;
    const auto found = module->functions.find(name);
    if (found == module->functions.end()) return NOT_FOUND;
    return *function = &found->second, SUCCESS;
}
API cuFuncGetAttribute(int* value, int attribute, Function* function) {
    IN_CONTEXT;
    if (!function) return INVALID_HANDLE;
    *value = 0; // static shared memory is known of the whole module only, and constants and spills not at all
    if (attribute == 0) *value = 1024;                                  // threads a block
    else if (attribute == 4) *value = 32;                               // registers
    else if (attribute == 5 || attribute == 6) *value = 90;             // PTX and binary version
    else if (attribute == 8) *value = function->max_dynamic_shared_bytes;
    return SUCCESS;
}
API cuFuncSetAttribute(Function* function, int attribute, int value) {
    IN_CONTEXT;
    if (!function) return INVALID_HANDLE;
    if (attribute == 8) {
        if (value < 0 || value > max_shared_bytes()) return INVALID_VALUE;
        function->max_dynamic_shared_bytes = value;
    }
    return SUCCESS;
}
API cuFuncSetCacheConfig(Function*, int) { return SUCCESS; }
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function* function, int threads, std::size_t dynamic_shared_bytes) {
    IN_CONTEXT;
    if (!function || threads < 1 || threads > 1024) return INVALID_VALUE;
    const int by_threads = 2048 / ((threads + 31) / 32 * 32), by_shared = int(233472 / (dynamic_shared_bytes + 1024));
    *blocks = std::min(std::min(by_threads, by_shared), 32);
    return SUCCESS;
}

API cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned dynamic_shared_bytes, Stream* stream, void** parameters, void** extra) {
    IN_CONTEXT;
    std::shared_ptr<const Launch> launch;
    const int result = prepare({function, grid_x, grid_y, grid_z, block_x, block_y, block_z, dynamic_shared_bytes, parameters, extra,
                                nullptr, nullptr},
                               launch);
    return result ? result : enqueue(stream, {KERNEL, nullptr, launch});
}
