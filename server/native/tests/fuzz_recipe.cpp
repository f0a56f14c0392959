// Any bytes as a recipe: it is refused, or it works and merges as the definition says.
#include <algorithm>

#include "check.h"
#include "encoder.h"
#include "plain.h"
#include "recipes.h"

namespace {

using namespace rm_grpc;
using namespace rm_grpc::tests;

class Reader {
  public:
    Reader(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

    unsigned byte() { return at_ == end_ ? 0 : *at_++; }
    unsigned below(unsigned limit) { return byte() % limit; }

    std::string bytes(std::size_t most) {
        const std::size_t wanted = below(static_cast<unsigned>(most) + 1);
        const auto size = std::min(wanted, static_cast<std::size_t>(end_ - at_));
        const std::string text(reinterpret_cast<const char*>(at_), size);
        at_ += size;
        return text;
    }

    std::string rest() { return {reinterpret_cast<const char*>(at_), static_cast<std::size_t>(end_ - at_)}; }

  private:
    const std::uint8_t *at_, *end_;
};

// Words over few letters meet each other most.
std::string letters(Reader& reader, std::size_t most) {
    auto text = reader.bytes(most);
    for (auto& byte : text) byte = "abc<|>\xE9 "[static_cast<unsigned char>(byte) % 8];
    return text;
}

std::string token(Reader& reader, bool pieces) {
    const auto way = reader.below(8);
    if (way == 0) return reader.bytes(12);
    const auto text = letters(reader, 10);
    if (!pieces) return byte_level(text);
    std::string spaced;
    for (const char byte : text) spaced += byte == ' ' ? "\u2581" : byte == '\xE9' ? "\u00E9" : std::string(1, byte);
    return spaced;
}

TokenId id(Reader& reader, TokenId usual) {
    switch (reader.below(24)) {
        case 0: return reader.byte();
        case 1: return 256 + reader.byte();
        case 2: return ~TokenId{reader.byte()};
        case 3: return (1u << 30) + reader.byte();  // ids that are just not too large would only be slow
        default: return usual;
    }
}

Recipe read_recipe(Reader& reader) {
    const auto flags = reader.byte();
    const bool pieces = reader.below(3) == 0;
    Recipe recipe{.words = pieces ? Words::sentence_pieces : kByteLevelWords[reader.below(8)],
                  .nfc = (flags & 1) != 0,
                  .ignore_merges = (flags & 2) != 0,
                  .prepend_space = (flags & 12) == 12 || (pieces && (flags & 4) != 0),
                  .vocabulary = {},
                  .merges = {},
                  .added = {}};
    Random random(1);
    recipe.vocabulary = pieces ? sentence_piece_recipe(random, {"a", "b", "c", "\u2581", "\u00E9"}, {}).vocabulary
                               : byte_level_recipe(random, recipe.words, {}).vocabulary;
    if (reader.below(16) == 0) recipe.vocabulary[reader.byte()].first = token(reader, pieces);
    TokenId next = 300;
    const auto known = [&] { return recipe.vocabulary[recipe.vocabulary.size() - 1 - reader.byte()].first; };
    for (auto count = reader.below(40); count > 0; --count) {
        switch (reader.below(4)) {
            case 0: recipe.vocabulary.emplace_back(token(reader, pieces), id(reader, next++)); break;
            case 1: recipe.merges.emplace_back(known(), known()); break;
            default: {  // a merge that has all it needs
                const auto left = known(), right = known();
                if (left.size() + right.size() > 60) break;
                const auto joined = left + right;
                const bool there = std::any_of(recipe.vocabulary.begin(), recipe.vocabulary.end(),
                                               [&](const auto& one) { return one.first == joined; });
                if (!there) recipe.vocabulary.emplace_back(joined, id(reader, next++));
                recipe.merges.emplace_back(left, right);
            }
        }
    }
    for (auto count = reader.below(5); count > 0; --count) {
        auto added = reader.below(4) == 0 ? reader.bytes(6) : letters(reader, 6);
        const auto ways = reader.byte();
        recipe.added.push_back({.text = std::move(added),
                                .id = id(reader, next++),
                                .normalized = ways % 3 == 0,
                                .strips_left = ways % 5 == 0,
                                .strips_right = ways % 7 == 0});
    }
    return recipe;
}

// Characters are what is normalised, merged as pieces and stripped: of what is none, only that nothing crashes is said.
bool is_comparable(const Recipe& recipe, std::string_view text) {
    const bool strips = std::any_of(recipe.added.begin(), recipe.added.end(),
                                    [](const auto& one) { return one.strips_left || one.strips_right; });
    if (recipe.words != Words::sentence_pieces && !recipe.nfc && !strips) return true;
    return is_utf8(text) &&
           std::all_of(recipe.vocabulary.begin(), recipe.vocabulary.end(),
                       [](const auto& one) { return is_utf8(one.first); }) &&
           std::all_of(recipe.added.begin(), recipe.added.end(), [](const auto& one) { return is_utf8(one.text); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Reader reader(data, size);
    const auto recipe = read_recipe(reader);
    const auto odd = reader.rest();
    const auto text = letters(reader, 200) + odd.substr(0, 200);
    try {
        const Encoder encoder(recipe);
        const PlainEncoder reference(recipe, encoder.vocabulary());
        for (const bool plain : {false, true}) {
            const auto ids = encode(encoder, text, {.plain = plain});
            if (is_comparable(recipe, text)) CHECK(ids == reference.encode(text, plain), name_of(recipe.words), quoted(text));
        }
    } catch (const std::invalid_argument&) {
        return 0;
    }
    return 0;
}
