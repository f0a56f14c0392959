// The one thing that is written once for each instruction set: which of 64 bytes are of which ASCII class.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace rm_grpc {

// Bit i speaks of byte i.
struct AsciiMasks {
    std::uint64_t high;        // not ASCII
    std::uint64_t letter;
    std::uint64_t upper;
    std::uint64_t digit;
    std::uint64_t space;       // the space alone
    std::uint64_t blank;       // tab, vertical tab, form feed
    std::uint64_t newline;     // \r \n
    std::uint64_t control;     // the control characters, blanks and newlines among them
    std::uint64_t apostrophe;
    std::uint64_t slash;
};

using Classify = void (*)(const unsigned char* bytes, AsciiMasks& masks);

struct Instructions {
    std::string_view name;
    Classify classify;
};

// What this processor has, the fastest first; the last is "scalar".
const std::vector<Instructions>& instructions();

// Throws std::invalid_argument where this processor has none of that name.
const Instructions& instructions(std::string_view name);

}  // namespace rm_grpc
