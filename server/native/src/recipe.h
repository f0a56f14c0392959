// What an encoder is made from: the parts of a tokenizer.json that change ids, each in the one form that is known here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rm_grpc {

using TokenId = std::uint32_t;

// How text is cut into words before merging. Each names the regular expression it stands for, in words.h.
enum class Words : std::uint8_t {
    gpt2,             // GPT-2
    gpt2_digits,      // every digit apart, then GPT-2 (SmolLM)
    cl100k,           // Llama-3, GLM-4: digits by threes
    qwen2,            // the same, digits one by one
    qwen3_5,          // the same, marks are letters
    o200k,            // gpt-oss, MiniMax
    tekken,           // the same without contractions, digits one by one
    deepseek,         // three splits, one after the other
    sentence_pieces,  // no words: a whole segment is merged, spaces written as U+2581
};

// Throws std::invalid_argument for a name that is none of the above.
Words words_named(std::string_view name);

struct AddedToken {
    std::string text;  // UTF-8
    TokenId id = 0;
    bool normalized = false;  // found after normalisation instead of before it
    bool strips_left = false, strips_right = false;  // takes the white space beside it
};

// Everything is checked by the constructor of `Vocabulary`, which throws std::invalid_argument.
struct Recipe {
    Words words = Words::gpt2;
    bool nfc = false;             // normalise to NFC before cutting
    bool ignore_merges = false;   // a word that is a token is that token, whatever the merges say
    bool prepend_space = false;   // sentence pieces: a segment begins with one more space
    std::vector<std::pair<std::string, TokenId>> vocabulary;    // as in tokenizer.json
    std::vector<std::pair<std::string, std::string>> merges;    // in the order of their rank
    std::vector<AddedToken> added;
};

}  // namespace rm_grpc
