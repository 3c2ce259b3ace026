// The two headers that stand before every program, as text within the library, and which state of them it is.

#pragma once
#include <cstdint>
#include <string>

asm(R"(
.section .rodata
emulated_interface: .incbin "interface.h"
.byte 0
emulated_machine_text: .incbin "machine.h"
.byte 0
.text
)");
extern "C" __attribute__((visibility("hidden"))) const char emulated_interface[], emulated_machine_text[];

namespace emulator {

inline std::uint64_t hash(const std::string& text) { // FNV-1a
    std::uint64_t value = 14695981039346656037u;
    for (unsigned char c : text) value = (value ^ c) * 1099511628211u;
    return value;
}

inline std::uint64_t text_version() {
    static const std::uint64_t version = hash(std::string(emulated_interface) + emulated_machine_text);
    return version;
}

} // namespace emulator
