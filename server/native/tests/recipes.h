// Small tokenizers, made up at random in the ways in which large ones come about.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "recipe.h"
#include "texts.h"

namespace rm_grpc::tests {

inline constexpr Words kByteLevelWords[] = {Words::gpt2,    Words::gpt2_digits, Words::cl100k, Words::qwen2,
                                            Words::qwen3_5, Words::o200k,       Words::tekken, Words::deepseek};

std::string_view name_of(Words words);

// Tokens of more than one unit and their merges, as bytes of a document; U+2581 stands for spaces in sentence pieces.
struct Grown {
    std::vector<std::string> tokens;
    std::vector<std::pair<std::string, std::string>> merges;
};

// What counting pairs gives: merges in the order in which their parts come about.
Grown train(std::string_view text, bool sentence_pieces, std::size_t merges);

// As tiktoken's vocabularies read as merges: every split of a token into two is one, at the rank of the token, and so ranks are
// not in the order in which parts come about. Some tokens are out of reach.
Grown rank_splits(Random& random, const std::vector<std::string>& units, std::size_t tokens);

// Merges of anything with anything, in no order; some tokens have several and some none.
Grown tangle(Random& random, const std::vector<std::string>& units, std::size_t tokens);

// One of the three.
Grown grow(Random& random, const std::vector<std::string>& units, std::size_t tokens, bool sentence_pieces = false);

// A token as byte-level vocabularies write it.
std::string byte_level(std::string_view bytes);

// All bytes, and what has grown; ids are in no order.
Recipe byte_level_recipe(Random& random, Words words, const Grown& grown);

// Tokens of bytes, those of `units`, and what has grown.
Recipe sentence_piece_recipe(Random& random, const std::vector<std::string>& units, const Grown& grown);

// Spaces and characters for pieces to grow from; a text has others as well.
const std::vector<std::string>& sentence_piece_units();

// A recipe for these words as a published tokenizer might have it, with some added tokens.
Recipe realistic_recipe(Random& random, Words words);

}  // namespace rm_grpc::tests
