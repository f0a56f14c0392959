#include "utf8.h"

#include <cstddef>

namespace rm_grpc {

namespace {

struct Lead {
    std::size_t followers;
    unsigned char first_low, first_high;  // bounds of the first follower, which rule out overlong forms and surrogates
};

// What a byte above ASCII promises; no followers where it begins nothing.
Lead lead_of(unsigned char byte) noexcept {
    if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF};
    if (byte == 0xE0) return {2, 0xA0, 0xBF};
    if (byte == 0xED) return {2, 0x80, 0x9F};
    if (byte >= 0xE1 && byte <= 0xEF) return {2, 0x80, 0xBF};
    if (byte == 0xF0) return {3, 0x90, 0xBF};
    if (byte >= 0xF1 && byte <= 0xF3) return {3, 0x80, 0xBF};
    if (byte == 0xF4) return {3, 0x80, 0x8F};
    return {0, 0, 0};
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
    std::size_t at = 0;
    while (at < text.size()) {
        const auto byte = static_cast<unsigned char>(text[at++]);
        if (byte < 0x80) continue;
        const auto lead = lead_of(byte);
        if (lead.followers == 0 || text.size() - at < lead.followers) return false;
        auto low = lead.first_low, high = lead.first_high;
        for (const auto end = at + lead.followers; at < end; ++at) {
            const auto follower = static_cast<unsigned char>(text[at]);
            if (follower < low || follower > high) return false;
            low = 0x80, high = 0xBF;
        }
    }
    return true;
}

}  // namespace rm_grpc
