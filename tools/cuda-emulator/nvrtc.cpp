// libnvrtc.so.13: compiles kernels for this CPU with g++. What it calls a cubin is a shared library. Compiled
// programs are kept in $XDG_CACHE_HOME (or /tmp) by the hash of everything that g++ is given.

#include "text.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum Result { SUCCESS = 0, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6 };

struct Program {
    std::string text, name, log, binary;
};

std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::string quoted(const std::string& text) {
    std::string result = "'";
    for (char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return result + "'";
}

bool starts_with(const std::string& text, const char* start) { return text.rfind(start, 0) == 0; }

// The options that mean something to g++; false for what is no option.
bool translate(int count, const char* const* options, std::string& flags, std::string& log) {
    std::string standard = "c++17";
    for (int i = 0; i < count; i++) {
        std::string option = options[i];
        if (starts_with(option, "--define-macro=")) option = "-D" + option.substr(15);
        if (starts_with(option, "-D") || starts_with(option, "-U")) {
            flags += " " + quoted(option);
            if (option.size() == 2 && ++i < count) flags += quoted(options[i]);
        } else if (starts_with(option, "--std=") || starts_with(option, "-std=")) {
            standard = option.substr(option.find('=') + 1);
        } else if ((option == "-arch" || option == "-I" || option == "-include") && i + 1 < count) {
            i++; // its value
        } else if (!starts_with(option, "-")) {
            log = "nvrtc: error: invalid value: " + option + "\n";
            return false;
        }
    }
    flags += " -std=" + standard;
    return true;
}

std::string cache() {
    const char* home = std::getenv("XDG_CACHE_HOME");
    const std::string folder = std::string(home && *home ? home : "/tmp") + "/emulated-cuda-" + std::to_string(getuid());
    mkdir(folder.c_str(), 0700);
    return folder;
}

} // namespace

API const char* nvrtcGetErrorString(int result) {
    switch (result) {
    case SUCCESS: return "NVRTC_SUCCESS";
    case INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
    case INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
    case INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    case COMPILATION: return "NVRTC_ERROR_COMPILATION";
    }
    return "NVRTC_ERROR unknown";
}
// Callers keep binaries by the compiler's version: this one's minor number names the text of its headers, so
// that neither a real compiler's binaries nor those of another state of the emulator are taken for its own.
API int nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = 1000 + int(emulator::text_version() % 1000000), SUCCESS; }
API int nvrtcGetNumSupportedArchs(int* count) { return *count = 3, SUCCESS; }
API int nvrtcGetSupportedArchs(int* archs) { return archs[0] = 80, archs[1] = 89, archs[2] = 90, SUCCESS; }

API int nvrtcCreateProgram(Program** program, const char* text, const char* name, int headers, const char* const*, const char* const*) {
    if (!program || !text || headers != 0) return INVALID_INPUT; // kernels are free of headers
    *program = new Program{text, name ? name : "default_program", "", ""};
    return SUCCESS;
}
API int nvrtcDestroyProgram(Program** program) {
    delete *program;
    return *program = nullptr, SUCCESS;
}
API int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    std::string flags = "-O2 -march=native -DEMULATED -fPIC -fno-gnu-unique -fvisibility=hidden -w "
                        "-fsanitize=alignment,bounds -fno-sanitize-recover=alignment,bounds";
    if (!translate(count, options, flags, program->log)) return INVALID_OPTION;
    const std::string text = "#define EMULATED_VERSION " + std::to_string(emulator::text_version()) + "u\n#line 1 \"interface.h\"\n" +
                             emulated_interface + "#line 1 \"machine.h\"\n" + emulated_machine_text + "namespace {\n#line 1 \"" + program->name + "\"\n" + program->text + "\n}\n";
    std::ostringstream key;
    key << std::hex << emulator::hash(flags + "\n" + text) << emulator::hash(text + flags);
    const std::string made = cache() + "/" + key.str() + ".so";
    program->binary = read(made);
    program->log.clear();
    if (!program->binary.empty()) return SUCCESS;

    // Under a name of this process and program, then renamed: others may compile the same.
    std::ostringstream own;
    own << cache() << "/" << key.str() << "-" << getpid() << "-" << program;
    const std::string source = own.str() + ".cpp", object = own.str() + ".so", log = own.str() + ".log";
    std::ofstream(source, std::ios::binary) << text;
    // Linked in a step of its own, without the checks' library: machine.h has what they call.
    const std::string compiled = own.str() + ".o";
    const std::string command = "{ g++ " + flags + " -c -o " + quoted(compiled) + " " + quoted(source) + " && g++ -shared -Wl,-z,defs -o " +
                                quoted(object) + " " + quoted(compiled) + "; } 2> " + quoted(log);
    const int status = std::system(command.c_str());
    program->log = read(log);
    if (status == 0) {
        program->binary = read(object);
        std::rename(object.c_str(), made.c_str());
    } else if (program->log.empty()) {
        program->log = "the emulator could not run g++";
    }
    for (const std::string& path : {source, compiled, log}) std::remove(path.c_str());
    return status == 0 ? SUCCESS : COMPILATION;
}
API int nvrtcGetProgramLogSize(Program* program, std::size_t* bytes) { return *bytes = program->log.size() + 1, SUCCESS; }
API int nvrtcGetProgramLog(Program* program, char* log) {
    std::memcpy(log, program->log.c_str(), program->log.size() + 1);
    return SUCCESS;
}
API int nvrtcGetCUBINSize(Program* program, std::size_t* bytes) {
    if (program->binary.empty()) return INVALID_PROGRAM;
    return *bytes = program->binary.size(), SUCCESS;
}
API int nvrtcGetCUBIN(Program* program, char* binary) {
    if (program->binary.empty()) return INVALID_PROGRAM;
    std::memcpy(binary, program->binary.data(), program->binary.size());
    return SUCCESS;
}
API int nvrtcGetPTXSize(Program* program, std::size_t* bytes) { return nvrtcGetCUBINSize(program, bytes); }
API int nvrtcGetPTX(Program* program, char* binary) { return nvrtcGetCUBIN(program, binary); }
