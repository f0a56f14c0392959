// Any bytes as a text, for every way of cutting words: windows against scanners, merging against the definition, and the same
// ids from every instruction set.
#include <memory>

#include "check.h"
#include "encoder.h"
#include "merging.h"
#include "normalize.h"
#include "plain.h"
#include "recipes.h"

namespace {

using namespace rm_grpc;
using namespace rm_grpc::tests;

struct Case {
    explicit Case(Recipe made) : recipe(std::move(made)), encoder(recipe), reference(recipe, encoder.vocabulary()) {}

    Recipe recipe;
    Encoder encoder;
    PlainEncoder reference;
};

std::vector<std::unique_ptr<Case>> make_cases() {
    Random random(1);
    std::vector<std::unique_ptr<Case>> cases;
    const auto add = [&](Words words, bool nfc) {
        auto recipe = realistic_recipe(random, words);
        recipe.nfc = nfc;
        cases.push_back(std::make_unique<Case>(std::move(recipe)));
    };
    for (const auto words : kByteLevelWords) add(words, false);
    add(Words::qwen2, true);
    add(Words::sentence_pieces, false);
    // Words of few letters, in which merges overlap.
    for (unsigned count = 0; count < 4; ++count) {
        const auto grown = grow(random, {"a", "b", " ", "\n"}, 40);
        cases.push_back(std::make_unique<Case>(byte_level_recipe(random, Words::cl100k, grown)));
    }
    return cases;
}

void check_case(const Case& one, std::string_view text) {
    const auto& recipe = one.recipe;
    check_windows(recipe.words, text);
    // Added tokens may take white space, which are characters.
    const bool utf8 = is_utf8(text);
    if (!utf8) encode(one.encoder, text);
    for (const bool plain : {false, true}) {
        if (!plain && !utf8) continue;
        const auto expected = one.reference.encode(text, plain);
        for (const auto& instructions : rm_grpc::instructions()) {
            const auto ids = encode(one.encoder, text, {.plain = plain, .instructions = &instructions});
            CHECK(ids == expected, name_of(recipe.words), instructions.name, quoted(text));
        }
        if (plain && !recipe.nfc && recipe.words != Words::sentence_pieces)
            CHECK(text_of(one.encoder.vocabulary(), expected) == text, name_of(recipe.words), quoted(text));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const auto cases = make_cases();
    if (size < 2) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
    const auto& one = *cases[data[0] % cases.size()];
    if (is_utf8(text) || (!one.recipe.nfc && one.recipe.words != Words::sentence_pieces)) {
        check_case(one, text);
    } else {
        encode(one.encoder, text);
    }
    return 0;
}
