#include "merging.h"

#include <algorithm>
#include <string>

#include "utf8.h"

namespace rm_grpc {

Merger::Merger(const Vocabulary& vocabulary) : vocabulary_(vocabulary), known_(std::size_t{1} << kKnownBits, ~std::uint64_t{0}) {}

// Both tokens' merges happen in the order of their ranks, so the neighbours at the border change in that order as well. Time
// runs backwards here: from the finished tokens to the parts that met first, asking at each step whether the two parts that
// touched would have merged before either of them grew.
bool Merger::stay_apart(TokenId left, TokenId right) const {
    const auto& first = vocabulary_.origin(left);
    const auto& second = vocabulary_.origin(right);
    if (!first.ascending || !second.ascending) {
        const auto text = std::string(vocabulary_.text(left)).append(vocabulary_.text(right));
        const auto tokens = vocabulary_.merge_plainly(text);
        return tokens.size() == 2 && tokens[0] == left && tokens[1] == right;
    }
    // One more than the ranks at which the left and the right part grew; of equal ranks the left one is merged first.
    auto left_grows = PairTable::kNone, right_grows = PairTable::kNone;
    while (true) {
        const auto rank = vocabulary_.pairs().rank(left, right);
        if (rank + 1 < left_grows && rank + 1 <= right_grows) return false;
        const auto left_made = vocabulary_.origin(left).rank, right_made = vocabulary_.origin(right).rank;
        if (left_made == 0 && right_made == 0) return true;
        if (right_made >= left_made) {
            right_grows = right_made;
            right = vocabulary_.origin(right).left;
        } else {
            left_grows = left_made;
            left = vocabulary_.origin(left).right;
        }
    }
}

bool Merger::stay_apart_cached(TokenId left, TokenId right) {
    const auto pair = std::uint64_t{left} << 32 | std::uint64_t{right} << 1;
    auto& known = known_[(pair * kOdd) >> (64 - kKnownBits)];
    if ((known & ~std::uint64_t{1}) != pair) known = pair | static_cast<std::uint64_t>(stay_apart(left, right));
    return (known & 1) != 0;
}

// Encodes from `at` as far as tokens reach: to the end, or to a character that is none. `begin` is where the word begins.
const unsigned char* Merger::merge_stretch(const unsigned char* begin, const unsigned char* at, const unsigned char* end,
                                           std::int32_t*& out) {
    const auto& trie = vocabulary_.trie();
    std::int32_t* const first = out;
    auto next = trie.longest(at, end);
    while (next.token != kNoToken) {
        const auto place = static_cast<std::size_t>(at - begin) + next.length;
        const bool alive = (dead_[place / 64] >> (place % 64) & 1) == 0;
        if (alive && (out == first || stay_apart_cached(static_cast<TokenId>(out[-1]), next.token))) {
            *out++ = static_cast<std::int32_t>(next.token);
            at += next.length;
            if (at == end) break;
            next = trie.longest(at, end);
            continue;
        }
        next = vocabulary_.shorter(next.token);
        while (next.token == kNoToken && out != first) {
            const auto from = static_cast<std::size_t>(at - begin);
            dead_[from / 64] |= std::uint64_t{1} << (from % 64);
            const auto last = static_cast<TokenId>(*--out);
            at -= vocabulary_.length(last);
            next = vocabulary_.shorter(last);
        }
    }
    return at;
}

// The definition, with the ranks of all pairs in hand: quadratic, and faster than the search for words of a usual length.
std::int32_t* Merger::merge_by_rank(std::string_view word, std::int32_t* out) const {
    constexpr std::uint32_t kNothing = PairTable::kNone << kPlaceBits;
    TokenId tokens[kFew];
    std::uint32_t ranks[kFew];  // of the pair that begins at a place, and the place: the least is the leftmost of the lowest rank
    std::uint8_t next[kFew + 1], before[kFew + 1];
    const auto size = static_cast<std::uint32_t>(vocabulary_.write_leaves(word, tokens) - tokens);
    for (std::uint32_t at = 0; at < size; ++at) {
        ranks[at] = at + 1 < size ? vocabulary_.pairs().rank(tokens[at], tokens[at + 1]) << kPlaceBits | at : kNothing;
        next[at] = static_cast<std::uint8_t>(at + 1);
        before[at + 1] = static_cast<std::uint8_t>(at);
    }
    const auto& pairs = vocabulary_.pairs();
    while (true) {
        auto least = kNothing;
        for (std::uint32_t at = 0; at < size; ++at) {
            least = std::min(least, ranks[at]);
            asm("" : "+r"(least));  // one by one: vectors would wait for the ranks that were just written
        }
        if (least >= kNothing) break;
        const auto at = least & (kFew - 1);
        const auto gone = next[at];
        const auto behind = next[at] = next[gone];
        before[behind] = static_cast<std::uint8_t>(at);
        ranks[gone] = kNothing;
        const auto made = tokens[at] = pairs.result(least >> kPlaceBits);
        ranks[at] = behind < size ? pairs.rank(made, tokens[behind]) << kPlaceBits | at : kNothing;
        if (at != 0) {
            const auto left = before[at];
            ranks[left] = pairs.rank(tokens[left], made) << kPlaceBits | left;
        }
    }
    for (std::uint32_t at = 0; at < size; at = next[at]) *out++ = static_cast<std::int32_t>(tokens[at]);
    return out;
}

std::int32_t* Merger::merge_by_search(std::string_view word, std::int32_t* out) {
    const auto* const begin = reinterpret_cast<const unsigned char*>(word.data());
    const auto* const end = begin + word.size();
    dead_.assign(word.size() / 64 + 1, 0);
    for (const auto* at = begin; at != end;) {
        at = merge_stretch(begin, at, end, out);
        if (at == end) break;
        for (const auto* next = at + utf8::decode(at, end).length; at != next; ++at)
            *out++ = static_cast<std::int32_t>(vocabulary_.byte_token(*at));
    }
    return out;
}

}  // namespace rm_grpc
