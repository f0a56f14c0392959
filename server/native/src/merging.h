// Byte-pair encoding of one word in time linear in its length.
//
// Two facts make it possible. First: tokens t1 .. tn are the encoding of their joined text if and only if each neighbouring
// pair is the encoding of its own joined text. (Until a first merge crosses a border, what happens on one side of it does not
// depend on the other; so a pair that would be crossed in the whole is crossed alone, and the other way round.) Second: every
// prefix of a text has one encoding, so there is one token that may end at a place. The search below therefore takes the
// longest token that fits its neighbour, goes back where none does, and never tries a place twice.
//
// A short word is merged as the definition says, which is quadratic and costs less there.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "vocabulary.h"

namespace rm_grpc {

// Keeps scratch space and what it learnt of pairs: one for each thread.
class Merger {
  public:
    explicit Merger(const Vocabulary& vocabulary);

    // Writes the tokens of a word, at most one a byte, and returns the place behind the last.
    std::int32_t* merge(std::string_view word, std::int32_t* out) {
        return word.size() <= kFew ? merge_by_rank(word, out) : merge_by_search(word, out);
    }

    // The same in one way and in the other; by rank for words of up to kFew bytes.
    std::int32_t* merge_by_rank(std::string_view word, std::int32_t* out) const;
    std::int32_t* merge_by_search(std::string_view word, std::int32_t* out);

    // Whether two reachable tokens stay apart when their joined text is encoded.
    bool stay_apart(TokenId left, TokenId right) const;

    static constexpr unsigned kPlaceBits = 5;
    static constexpr std::size_t kFew = std::size_t{1} << kPlaceBits;

  private:
    bool stay_apart_cached(TokenId left, TokenId right);
    const unsigned char* merge_stretch(const unsigned char* begin, const unsigned char* at, const unsigned char* end,
                                       std::int32_t*& out);

    static constexpr unsigned kKnownBits = 13;

    const Vocabulary& vocabulary_;
    Large<std::uint64_t> known_;  // left << 32 | right << 1 | apart
    std::vector<std::uint64_t> dead_;   // a bit for each place that no encoding leads on from
};

}  // namespace rm_grpc
