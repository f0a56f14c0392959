// Tokens that are found in a text as they stand, before anything is cut into words.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "recipe.h"
#include "vocabulary.h"

namespace rm_grpc {

class AddedTokens {
  public:
    explicit AddedTokens(std::vector<AddedToken> tokens);

    bool empty() const { return tokens_.empty(); }

    // Calls `between` with each piece of text between tokens, none of them empty, and `token` with each id, in their order.
    // Matches are the leftmost, and of those that begin at one place the longest.
    template <class Between, class Token>
    void split(const unsigned char* begin, const unsigned char* end, Between between, Token token) const {
        const auto* consumed = begin;
        for (auto match = find(begin, end); match.token != nullptr; match = find(match.end, end)) {
            // White space behind a match may hold the next one; what was looked at for one is not looked at again.
            const auto* const from = std::min(consumed, match.begin);
            const auto* const start = match.token->strips_left ? without_space(from, match.begin) : match.begin;
            if (consumed < start) between(consumed, start);
            token(match.token->id);
            if (!match.token->strips_right)
                consumed = match.end;
            else if (consumed <= match.end)
                consumed = behind_space(match.end, end);
        }
        if (consumed < end) between(consumed, end);
    }

    struct Match {
        const unsigned char* begin;
        const unsigned char* end;
        const AddedToken* token;  // null where none was found
    };

    // The first token at or behind `at`.
    Match find(const unsigned char* at, const unsigned char* end) const;

  private:
    static const unsigned char* without_space(const unsigned char* begin, const unsigned char* end);
    static const unsigned char* behind_space(const unsigned char* begin, const unsigned char* end);
    const unsigned char* candidate(const unsigned char* at, const unsigned char* end) const;

    std::vector<AddedToken> tokens_;
    Trie trie_;
    std::string first_bytes_;
    std::array<bool, 256> begins_{};
};

}  // namespace rm_grpc
