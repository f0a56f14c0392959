// A byte-pair vocabulary: its tokens, its merges, and how each token comes about.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "hash.h"
#include "large.h"
#include "recipe.h"

namespace rm_grpc {

inline constexpr TokenId kNoToken = std::numeric_limits<TokenId>::max();

// The pairs that merge, by open addressing. A pair and its rank are one number of 64 bits.
class PairTable {
  public:
    static constexpr unsigned kTokenBits = 21, kRankBits = 22;
    static constexpr std::uint32_t kNone = (1u << kRankBits) - 1;  // the rank of two that do not merge

    explicit PairTable(std::size_t capacity);

    void put(TokenId left, TokenId right, std::uint32_t rank, TokenId result);

    std::uint32_t rank(TokenId left, TokenId right) const { return static_cast<std::uint32_t>(*find(left, right) & kNone); }

    // The token that the merge of a rank makes.
    TokenId result(std::uint32_t rank) const { return results_[rank]; }

  private:
    const std::uint64_t* find(TokenId left, TokenId right) const {
        const auto pair = std::uint64_t{left} << kTokenBits | right;
        const auto hash = pair * kOdd;
        if (const auto bit = hash >> (shift_ - kFilterBits); (filter_[bit / 64] >> (bit % 64) & 1) == 0) return &kNothing;
        return &entries_[slot(pair, hash)];
    }

    // Where a pair stands, or would.
    std::size_t slot(std::uint64_t pair, std::uint64_t hash) const {
        auto at = hash >> shift_;
        while (entries_[at] >> kRankBits != pair && entries_[at] != kNothing) at = (at + 1) & mask_;
        return at;
    }

    static constexpr std::uint64_t kNothing = ~std::uint64_t{0};
    static constexpr unsigned kFilterBits = 2;  // more than a slot has: so many times fewer false alarms

    Large<std::uint64_t> entries_;
    Large<std::uint64_t> filter_;  // most pairs do not merge, and this says so from a nearer cache
    Large<TokenId> results_;  // by rank
    std::size_t mask_;
    unsigned shift_;
};

// Finds the longest token that a text begins with: a double array, one look a byte behind the second.
class Trie {
  public:
    struct Found {
        TokenId token = kNoToken;
        std::uint32_t length = 0;
    };

    // `keys` are distinct and not empty.
    explicit Trie(std::vector<std::pair<std::string_view, TokenId>> keys);

    Found longest(const unsigned char* at, const unsigned char* end) const {
        if (end - at < 2) return at == end ? Found{} : Found{singles_[*at], 1};
        const auto& first = pairs_[std::size_t{at[0]} << 8 | at[1]];
        std::uint32_t node = first.node, accepted = first.accepted;
        const unsigned char* accepted_end = at + first.length;
        const unsigned char* const begin = at;
        if (node != 0) {
            for (at += 2; at != end; ++at) {
                const auto child = (units_[node].base & kBase) ^ *at;
                if (units_[child].parent != node) break;
                node = child;
                if ((units_[node].base & kAccepts) != 0) accepted = node, accepted_end = at + 1;
            }
        }
        return {tokens_[accepted], static_cast<std::uint32_t>(accepted_end - begin)};
    }

  private:
    // Eight to a cache line; the tokens of the nodes lie apart, for only the last is asked for.
    struct Unit {
        std::uint32_t base = 0;  // and whether a token ends here
        std::uint32_t parent = ~std::uint32_t{0};
    };
    static constexpr std::uint32_t kAccepts = 1u << 31, kBase = kAccepts - 1;

    // Where the first two bytes lead: the node, 0 for none, and the node of the longest token so far with its length.
    struct Entrance {
        std::uint32_t node = 0;
        std::uint32_t accepted : 30 = 0;
        std::uint32_t length : 2 = 0;
    };
    class Builder;

    Large<Unit> units_;
    Large<TokenId> tokens_;  // by node; that of node 0 is none
    Large<Entrance> pairs_;
    std::array<TokenId, 256> singles_{};
};

// Tokens and merges of one tokenizer, read-only after construction. Ranks are those of the merges that ever happen.
//
// Texts of tokens are bytes as they stand in a document: byte-level alphabets are undone, and U+2581 is a space.
class Vocabulary {
  public:
    // How a token comes about when its own text is encoded.
    struct Origin {
        TokenId left = kNoToken;   // the two that its last merge joins; none for a token that no merge makes
        TokenId right = kNoToken;
        std::uint32_t rank = 0;    // one more than the rank of that merge; 0 for a token that no merge makes
        bool reachable = false;    // its own text encodes to it alone; nothing else of an unreachable one is known
        bool ascending = false;    // and the merges on the way come in the order of their ranks
    };

    explicit Vocabulary(const Recipe& recipe);

    const Origin& origin(TokenId token) const { return origins_[token]; }
    // The longest other reachable token that a token's text begins with.
    Trie::Found shorter(TokenId token) const { return shorter_[token]; }
    std::size_t length(TokenId token) const { return lengths_[token]; }
    const PairTable& pairs() const { return pairs_; }
    const Trie& trie() const { return trie_; }
    std::string_view text(TokenId token) const { return texts_[token]; }
    std::size_t size() const { return texts_.size(); }

    // The token of a byte that stands for itself: a leaf of the byte-level alphabet, or SentencePiece's <0xNN>.
    TokenId byte_token(unsigned char byte) const { return byte_tokens_[byte]; }

    // Writes the tokens that merges of a text begin with, at most one a byte, and returns the place behind them. What has no
    // token of its own is told by bytes.
    TokenId* write_leaves(std::string_view text, TokenId* out) const;

    // Bytes that stand side by side in some reachable token: the first times 256, and the second.
    const std::bitset<65536>& neighbours() const { return neighbours_; }

    // The tokens of a text by the definition: merge the pair of the lowest rank, the leftmost of equals, until none is left.
    // Quadratic, and so for short texts only. `origin`, where given, gets what the last merge was.
    std::vector<TokenId> merge_plainly(std::string_view text, Origin* origin = nullptr) const;

  private:
    void read_tokens(const Recipe& recipe);
    void read_leaves();
    void read_merges(const Recipe& recipe);
    void find_origins();
    void drop_idle_merges();
    void find_shorter();

    bool byte_level_;
    std::vector<std::string> texts_;  // by id; empty where an id is unused
    Large<Origin> origins_;
    Large<Trie::Found> shorter_;
    Large<std::uint32_t> lengths_;
    std::bitset<65536> neighbours_;
    std::array<TokenId, 256> byte_tokens_{};
    Large<TokenId> leaves_;  // of sentence pieces: by character
    PairTable pairs_;
    Trie trie_;
};

}  // namespace rm_grpc
