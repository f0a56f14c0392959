// Compiled for AVX2: nothing here may be inlined elsewhere, so no header of ours with code in it is included.
#if defined(__x86_64__)
#include <immintrin.h>

#include "instructions.h"

namespace rm_grpc {

namespace {

struct Half {
    __m256i bytes;

    std::uint64_t bits(__m256i found) const { return static_cast<std::uint32_t>(_mm256_movemask_epi8(found)); }
    std::uint64_t equal(char byte) const { return bits(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte))); }
    std::uint64_t within(__m256i values, char first, char last) const {
        const auto offset = _mm256_sub_epi8(values, _mm256_set1_epi8(first));
        const auto most = _mm256_set1_epi8(static_cast<char>(last - first));
        return bits(_mm256_cmpeq_epi8(_mm256_min_epu8(offset, most), offset));
    }
};

}  // namespace

void classify_avx2(const unsigned char* bytes, AsciiMasks& masks) {
    const auto* const at = reinterpret_cast<const __m256i*>(bytes);
    const Half low{_mm256_loadu_si256(at)}, high{_mm256_loadu_si256(at + 1)};
    const auto both = [&](auto test) { return test(low) | test(high) << 32; };
    const auto case_bit = _mm256_set1_epi8(0x20);
    masks.high = both([](Half half) { return half.bits(half.bytes); });
    masks.letter = both([=](Half half) { return half.within(_mm256_or_si256(half.bytes, case_bit), 'a', 'z'); });
    masks.upper = both([](Half half) { return half.within(half.bytes, 'A', 'Z'); });
    masks.digit = both([](Half half) { return half.within(half.bytes, '0', '9'); });
    masks.space = both([](Half half) { return half.equal(' '); });
    masks.newline = both([](Half half) { return half.equal('\n') | half.equal('\r'); });
    masks.blank = both([](Half half) { return half.within(half.bytes, '\t', '\r'); }) & ~masks.newline;
    masks.control = both([](Half half) { return half.within(half.bytes, 0, 0x1F) | half.equal(0x7F); });
    masks.apostrophe = both([](Half half) { return half.equal('\''); });
    masks.slash = both([](Half half) { return half.equal('/'); });
}

}  // namespace rm_grpc
#endif
