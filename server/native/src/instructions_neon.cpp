// NEON is part of every aarch64.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "instructions.h"

namespace rm_grpc {

namespace {

struct Quarters {
    uint8x16_t part[4];
};

// One bit a byte: each byte of the mask keeps one bit of its own, and pairwise sums gather eight of them into one.
std::uint64_t bits(const Quarters& found) {
    const uint8x16_t weight = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const auto first = vpaddq_u8(vandq_u8(found.part[0], weight), vandq_u8(found.part[1], weight));
    const auto second = vpaddq_u8(vandq_u8(found.part[2], weight), vandq_u8(found.part[3], weight));
    const auto all = vpaddq_u8(first, second);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(all, all)), 0);
}

template <class Test>
std::uint64_t bits_where(const Quarters& bytes, Test test) {
    return bits({{test(bytes.part[0]), test(bytes.part[1]), test(bytes.part[2]), test(bytes.part[3])}});
}

std::uint64_t equal(const Quarters& bytes, std::uint8_t byte) {
    return bits_where(bytes, [byte](uint8x16_t part) { return vceqq_u8(part, vdupq_n_u8(byte)); });
}

std::uint64_t within(const Quarters& bytes, std::uint8_t first, std::uint8_t last, std::uint8_t set = 0) {
    return bits_where(bytes, [=](uint8x16_t part) {
        const auto offset = vsubq_u8(vorrq_u8(part, vdupq_n_u8(set)), vdupq_n_u8(first));
        return vcleq_u8(offset, vdupq_n_u8(last - first));
    });
}

}  // namespace

void classify_neon(const unsigned char* at, AsciiMasks& masks) {
    const Quarters bytes{{vld1q_u8(at), vld1q_u8(at + 16), vld1q_u8(at + 32), vld1q_u8(at + 48)}};
    masks.high = within(bytes, 0x80, 0xFF);
    masks.letter = within(bytes, 'a', 'z', 0x20);
    masks.upper = within(bytes, 'A', 'Z');
    masks.digit = within(bytes, '0', '9');
    masks.space = equal(bytes, ' ');
    masks.newline = equal(bytes, '\n') | equal(bytes, '\r');
    masks.blank = within(bytes, '\t', '\r') & ~masks.newline;
    masks.control = within(bytes, 0, 0x1F) | equal(bytes, 0x7F);
    masks.apostrophe = equal(bytes, '\'');
    masks.slash = equal(bytes, '/');
}

}  // namespace rm_grpc
#endif
