#include "instructions.h"

#include <stdexcept>
#include <string>

namespace rm_grpc {

void classify_avx512(const unsigned char* bytes, AsciiMasks& masks);
void classify_avx2(const unsigned char* bytes, AsciiMasks& masks);
void classify_neon(const unsigned char* bytes, AsciiMasks& masks);

namespace {

void classify_scalar(const unsigned char* bytes, AsciiMasks& masks) {
    masks = {};
    for (unsigned at = 0; at < 64; ++at) {
        const auto byte = bytes[at];
        const auto bit = std::uint64_t{1} << at;
        const auto folded = byte | 0x20;
        if (byte >= 0x80) masks.high |= bit;
        if (folded >= 'a' && folded <= 'z') masks.letter |= bit;
        if (byte >= 'A' && byte <= 'Z') masks.upper |= bit;
        if (byte >= '0' && byte <= '9') masks.digit |= bit;
        if (byte == ' ') masks.space |= bit;
        if (byte == '\t' || byte == '\v' || byte == '\f') masks.blank |= bit;
        if (byte == '\r' || byte == '\n') masks.newline |= bit;
        if (byte < 0x20 || byte == 0x7F) masks.control |= bit;
        if (byte == '\'') masks.apostrophe |= bit;
        if (byte == '/') masks.slash |= bit;
    }
}

std::vector<Instructions> find_instructions() {
    std::vector<Instructions> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw")) found.push_back({"avx512", classify_avx512});
    if (__builtin_cpu_supports("avx2")) found.push_back({"avx2", classify_avx2});
#elif defined(__aarch64__)
    found.push_back({"neon", classify_neon});
#endif
    found.push_back({"scalar", classify_scalar});
    return found;
}

}  // namespace

const std::vector<Instructions>& instructions() {
    static const auto found = find_instructions();
    return found;
}

const Instructions& instructions(std::string_view name) {
    for (const auto& one : instructions())
        if (one.name == name) return one;
    throw std::invalid_argument("this processor has no instruction set named " + std::string(name));
}

}  // namespace rm_grpc
