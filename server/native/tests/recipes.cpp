#include "recipes.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <set>

#include "utf8.h"

namespace rm_grpc::tests {

namespace {

constexpr std::string_view kSpace = "\u2581";

using Symbols = std::vector<std::string>;
using Pair = std::pair<std::string, std::string>;

// Words with their leading spaces, as symbols: bytes or characters.
std::vector<Symbols> words_of(std::string_view text, bool sentence_pieces) {
    std::vector<Symbols> words(1);
    const auto units = sentence_pieces ? characters(text) : [&] {
        Symbols bytes;
        for (const char byte : text) bytes.emplace_back(1, byte);
        return bytes;
    }();
    for (const auto& unit : units) {
        if (unit == " " && !words.back().empty()) words.emplace_back();
        words.back().push_back(sentence_pieces && unit == " " ? std::string(kSpace) : unit);
    }
    return words;
}

Pair commonest(const std::vector<Symbols>& words) {
    std::map<Pair, std::size_t> counts;
    for (const auto& word : words)
        for (std::size_t at = 0; at + 1 < word.size(); ++at) ++counts[{word[at], word[at + 1]}];
    const auto less = [](const auto& one, const auto& other) { return one.second < other.second; };
    const auto best = std::max_element(counts.begin(), counts.end(), less);
    return best == counts.end() || best->second < 2 ? Pair{} : best->first;
}

void join(Symbols& word, const Pair& pair) {
    for (std::size_t at = 0; at + 1 < word.size(); ++at) {
        if (word[at] != pair.first || word[at + 1] != pair.second) continue;
        word[at] += word[at + 1];
        word.erase(word.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
}

void give_ids(Random& random, std::vector<std::string> tokens, Recipe& recipe) {
    random.shuffle(tokens);
    TokenId id = 0;
    for (auto& token : tokens) {
        if (random.chance(2)) ++id;  // ids need not be dense
        recipe.vocabulary.emplace_back(std::move(token), id++);
    }
}

}  // namespace

std::string_view name_of(Words words) {
    static constexpr std::array<std::string_view, 9> kNames{"gpt2",  "gpt2_digits", "cl100k",   "qwen2",          "qwen3_5",
                                                            "o200k", "tekken",      "deepseek", "sentence_pieces"};
    return kNames[static_cast<std::size_t>(words)];
}

Grown train(std::string_view text, bool sentence_pieces, std::size_t merges) {
    auto words = words_of(text, sentence_pieces);
    Grown grown;
    std::set<std::string> known;
    while (grown.merges.size() < merges) {
        const auto best = commonest(words);
        if (best.first.empty()) break;
        for (auto& word : words) join(word, best);
        if (known.insert(best.first + best.second).second) grown.tokens.push_back(best.first + best.second);
        grown.merges.push_back(best);
    }
    return grown;
}

Grown rank_splits(Random& random, const std::vector<std::string>& units, std::size_t tokens) {
    Grown grown;
    std::map<std::string, Symbols> known;
    for (const auto& unit : units) known[unit] = {unit};
    for (auto tries = 4 * tokens; tries > 0 && grown.tokens.size() < tokens; --tries) {
        Symbols token;
        for (auto length = random.between(2, 7); length > 0; --length) token.push_back(random.pick(units));
        std::string text;
        for (const auto& unit : token) text += unit;
        if (known.emplace(text, token).second) grown.tokens.push_back(text);
    }
    // Shorter tokens tend to have lower ranks, with many exceptions.
    if (random.chance(50))
        std::stable_sort(grown.tokens.begin(), grown.tokens.end(),
                         [](const auto& one, const auto& other) { return one.size() / 3 < other.size() / 3; });
    for (const auto& token : grown.tokens) {
        std::vector<Pair> splits;
        std::string left;
        for (const auto& unit : known[token]) {
            if (!left.empty() && known.contains(left) && known.contains(token.substr(left.size())))
                splits.emplace_back(left, token.substr(left.size()));
            left += unit;
        }
        random.shuffle(splits);
        grown.merges.insert(grown.merges.end(), splits.begin(), splits.end());
    }
    return grown;
}

Grown tangle(Random& random, const std::vector<std::string>& units, std::size_t tokens) {
    Grown grown;
    auto parts = units;
    std::set<std::string> known(units.begin(), units.end());
    std::set<Pair> merged;
    for (auto tries = 8 * tokens; tries > 0 && grown.tokens.size() < tokens; --tries) {
        const auto left = random.pick(parts), right = random.pick(parts);
        if (left.size() + right.size() > 24 || !merged.emplace(left, right).second) continue;
        if (known.insert(left + right).second) {
            grown.tokens.push_back(left + right);
            parts.push_back(left + right);
        }
        if (!random.chance(8)) grown.merges.emplace_back(left, right);
    }
    if (random.chance(70)) random.shuffle(grown.merges);
    return grown;
}

Grown grow(Random& random, const std::vector<std::string>& units, std::size_t tokens, bool sentence_pieces) {
    switch (random.below(3)) {
        case 0: return rank_splits(random, units, tokens);
        case 1: return tangle(random, units, tokens);
        default: break;
    }
    std::string text;
    for (auto words = random.between(5, 60); words > 0; --words)
        text += random_word(random, units, random.between(2, 30)) + ' ';
    auto grown = train(text, sentence_pieces, tokens);
    if (random.chance(30)) random.shuffle(grown.merges);
    return grown;
}

std::string byte_level(std::string_view bytes) {
    static const auto alphabet = [] {
        std::array<std::string, 256> written;
        char32_t moved = 0x100;
        for (unsigned byte = 0; byte < 256; ++byte) {
            const bool kept = (byte > ' ' && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
            utf8::append(written[byte], kept ? byte : moved++);
        }
        return written;
    }();
    std::string token;
    for (const unsigned char byte : bytes) token += alphabet[byte];
    return token;
}

Recipe byte_level_recipe(Random& random, Words words, const Grown& grown) {
    Recipe recipe{.words = words, .vocabulary = {}, .merges = {}, .added = {}};
    std::vector<std::string> tokens;
    for (unsigned byte = 0; byte < 256; ++byte) tokens.push_back(byte_level(std::string(1, static_cast<char>(byte))));
    for (const auto& token : grown.tokens) tokens.push_back(byte_level(token));
    give_ids(random, std::move(tokens), recipe);
    for (const auto& [left, right] : grown.merges) recipe.merges.emplace_back(byte_level(left), byte_level(right));
    return recipe;
}

Recipe sentence_piece_recipe(Random& random, const std::vector<std::string>& units, const Grown& grown) {
    Recipe recipe{.words = Words::sentence_pieces, .vocabulary = {}, .merges = {}, .added = {}};
    std::vector<std::string> tokens;
    char name[8];
    for (unsigned byte = 0; byte < 256; ++byte) {
        std::snprintf(name, sizeof name, "<0x%02X>", byte);
        tokens.emplace_back(name);
    }
    tokens.insert(tokens.end(), units.begin(), units.end());
    tokens.insert(tokens.end(), grown.tokens.begin(), grown.tokens.end());
    give_ids(random, std::move(tokens), recipe);
    recipe.merges = grown.merges;
    return recipe;
}

const std::vector<std::string>& sentence_piece_units() {
    static const std::vector<std::string> units{
        std::string(kSpace), "a", "b", "e", "s", "t", "A", "\n", "<", "0", "\u00E9", "\u4E2D", "\U0001F600", ".", "'"};
    return units;
}

Recipe realistic_recipe(Random& random, Words words) {
    const bool pieces = words == Words::sentence_pieces;
    std::string text;
    while (text.size() < 1500) text += random_text(random, 60) + ' ';
    auto grown = train(text, pieces, 150);
    if (random.chance(30)) random.shuffle(grown.merges);
    auto recipe = [&] {
        if (!pieces) return byte_level_recipe(random, words, grown);
        std::set<std::string> units;
        for (const auto& token : grown.tokens)
            for (const auto& character : characters(token)) units.insert(character);
        // A piece that reaches across words.
        units.insert({std::string(kSpace), "a"});
        grown.tokens.push_back(std::string("a").append(kSpace));
        grown.merges.emplace_back("a", kSpace);
        std::set<std::string> known(units.begin(), units.end());
        std::erase_if(grown.tokens, [&](const auto& token) { return !known.insert(token).second; });
        return sentence_piece_recipe(random, {units.begin(), units.end()}, grown);
    }();
    recipe.nfc = !pieces && random.chance(40);
    recipe.ignore_merges = !pieces && random.chance(50);
    recipe.prepend_space = pieces && random.chance(50);
    TokenId id = 100'000;
    for (const auto* const added : {"<|end|>", "<|", "<s>", "</s>", "\u00E9s", "the The", "<|end", "\n\n", " a"}) {
        if (!random.chance(60)) continue;
        recipe.added.push_back({.text = added,
                                .id = id++,
                                .normalized = !pieces && random.chance(30),
                                .strips_left = random.chance(15),
                                .strips_right = random.chance(15)});
    }
    return recipe;
}

}  // namespace rm_grpc::tests
