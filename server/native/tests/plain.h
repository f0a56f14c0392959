// The whole way from text to ids once more, in as few words as possible and however slow: what the core is measured against.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "encoder.h"
#include "recipe.h"
#include "vocabulary.h"

namespace rm_grpc::tests {

using IdList = std::vector<std::int32_t>;

// A copy of a text that ends where its allocation does, so that a sanitizer sees what reads past it.
class Exact {
  public:
    explicit Exact(std::string_view text);

    const unsigned char* begin() const { return bytes_.get(); }
    const unsigned char* end() const { return bytes_.get() + size_; }
    std::string_view view() const { return {reinterpret_cast<const char*>(bytes_.get()), size_}; }

  private:
    std::size_t size_;
    std::unique_ptr<unsigned char[]> bytes_;
};

// Where a check fails for a text, it fails here with as few characters of that text as still make it fail.
void check_shrunk(std::string_view text, const std::function<void(std::string_view)>& check);

struct NaiveMatch {
    std::size_t begin = std::string_view::npos, length = 0;
    const AddedToken* token = nullptr;  // null where none was found
};

// The leftmost of these tokens at or behind `at`, the longest of those that begin there.
NaiveMatch find_naively(const std::vector<AddedToken>& tokens, std::string_view text, std::size_t at);

// The tokens of a text, and with them the white space that they take; `between` is called for what stands between them.
void split_naively(const std::vector<AddedToken>& tokens, std::string_view text,
                   const std::function<void(std::string_view)>& between, const std::function<void(TokenId)>& token);

// The merges of a recipe, all of them, by the definition.
class PlainMerges {
  public:
    PlainMerges(const Recipe& recipe, const Vocabulary& vocabulary);

    // The tokens of a word, with bytes for what has no token.
    IdList merge(std::string_view word) const;

  private:
    struct Merge {
        std::size_t rank;
        TokenId result;
    };

    const Vocabulary& vocabulary_;
    std::map<std::pair<TokenId, TokenId>, Merge> merges_;
};

// The ends of words by the plain scanners.
std::vector<std::size_t> word_ends(Words words, std::string_view text);

// Walks a text as the encoder does, with every instruction set, and checks each start that a window finds.
void check_windows(Words words, std::string_view text);

// What an encoder of this recipe should give; both outlive it.
class PlainEncoder {
  public:
    PlainEncoder(const Recipe& recipe, const Vocabulary& vocabulary);

    IdList encode(std::string_view text, bool plain = false) const;

  private:
    void add_words(std::string_view normalized, IdList& ids) const;

    const Recipe& recipe_;
    const Vocabulary& vocabulary_;
    PlainMerges merges_;
    std::vector<AddedToken> before_, behind_;
    std::unordered_map<std::string_view, TokenId> whole_words_;
};

IdList encode(const Encoder& encoder, std::string_view text, const EncodeOptions& options = {});

// The bytes that ids stand for.
std::string text_of(const Vocabulary& vocabulary, const IdList& ids);

}  // namespace rm_grpc::tests
