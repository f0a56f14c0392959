// UTF-8, one code point at a time.
#pragma once

#include <string>

namespace rm_grpc::utf8 {

constexpr char32_t kReplacement = 0xFFFD;

struct Decoded {
    char32_t code;
    unsigned length;
};

constexpr bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// The code point at `at`. What is not UTF-8 counts as U+FFFD, one byte long; nothing from `end` on is read.
constexpr Decoded decode(const unsigned char* at, const unsigned char* end) noexcept {
    constexpr Decoded malformed{kReplacement, 1};
    const auto left = end - at;
    if (left <= 0) return malformed;
    const char32_t lead = at[0];
    if (lead < 0x80) return {lead, 1};
    if (left < 2 || !is_continuation(at[1])) return malformed;
    const char32_t head = at[1] & 0x3F;
    if (lead < 0xE0) return lead < 0xC2 ? malformed : Decoded{(lead & 0x1F) << 6 | head, 2};
    if (left < 3 || !is_continuation(at[2])) return malformed;
    if (lead < 0xF0) {
        const auto code = (lead & 0x0F) << 12 | head << 6 | (at[2] & 0x3F);
        return code < 0x800 || (code >= 0xD800 && code < 0xE000) ? malformed : Decoded{code, 3};
    }
    if (left < 4 || !is_continuation(at[3])) return malformed;
    const auto code = (lead & 0x0F) << 18 | head << 12 | char32_t{at[2] & 0x3Fu} << 6 | (at[3] & 0x3Fu);
    return code < 0x10000 || code >= 0x110000 ? malformed : Decoded{code, 4};
}

// Appends a code point, which is no surrogate and below 0x110000.
inline void append(std::string& out, char32_t code) {
    const auto rest = [code](unsigned shift) { return static_cast<char>(0x80 | (code >> shift & 0x3F)); };
    if (code < 0x80) {
        out += static_cast<char>(code);
    } else if (code < 0x800) {
        out += {static_cast<char>(0xC0 | code >> 6), rest(0)};
    } else if (code < 0x10000) {
        out += {static_cast<char>(0xE0 | code >> 12), rest(6), rest(0)};
    } else {
        out += {static_cast<char>(0xF0 | code >> 18), rest(12), rest(6), rest(0)};
    }
}

}  // namespace rm_grpc::utf8
