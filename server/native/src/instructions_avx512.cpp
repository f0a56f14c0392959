// Compiled for AVX-512: nothing here may be inlined elsewhere, so no header of ours with code in it is included.
#if defined(__x86_64__)
#include <immintrin.h>

#include "instructions.h"

namespace rm_grpc {

void classify_avx512(const unsigned char* bytes, AsciiMasks& masks) {
    const auto all = _mm512_loadu_si512(bytes);
    const auto equal = [all](char byte) -> std::uint64_t { return _mm512_cmpeq_epi8_mask(all, _mm512_set1_epi8(byte)); };
    const auto within = [](__m512i values, char first, char last) -> std::uint64_t {
        const auto offset = _mm512_sub_epi8(values, _mm512_set1_epi8(first));
        return _mm512_cmple_epu8_mask(offset, _mm512_set1_epi8(static_cast<char>(last - first)));
    };
    masks.high = _mm512_movepi8_mask(all);
    masks.letter = within(_mm512_or_si512(all, _mm512_set1_epi8(0x20)), 'a', 'z');
    masks.upper = within(all, 'A', 'Z');
    masks.digit = within(all, '0', '9');
    masks.space = equal(' ');
    masks.newline = equal('\n') | equal('\r');
    masks.blank = within(all, '\t', '\r') & ~masks.newline;
    masks.control = within(all, 0, 0x1F) | equal(0x7F);
    masks.apostrophe = equal('\'');
    masks.slash = equal('/');
}

}  // namespace rm_grpc
#endif
