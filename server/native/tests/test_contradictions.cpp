// Recipes that contradict themselves are refused.
#include <functional>

#include "check.h"
#include "encoder.h"
#include "plain.h"
#include "recipes.h"

namespace rm_grpc::tests {

namespace {

Recipe sound(Words words) {
    Random random(1);
    if (words == Words::sentence_pieces)
        return sentence_piece_recipe(random, {"\u2581", "a", "b"}, {.tokens = {"ab"}, .merges = {{"a", "b"}}});
    auto recipe = byte_level_recipe(random, words, {.tokens = {"ab"}, .merges = {{"a", "b"}}});
    recipe.added.push_back({.text = "<|end|>", .id = 900, .normalized = false});
    return recipe;
}

bool refused(const Recipe& recipe) {
    try {
        encode(Encoder(recipe), "ab a b");
        return false;
    } catch (const std::invalid_argument& error) {
        return *error.what() != '\0';
    }
}

void check_refused(const char* what, const std::function<void(Recipe&)>& change, Words words = Words::gpt2) {
    auto recipe = sound(words);
    CHECK(!refused(recipe), what);
    change(recipe);
    CHECK(refused(recipe), what);
}

void drop(Recipe& recipe, std::string_view token) {
    std::erase_if(recipe.vocabulary, [&](const auto& one) { return one.first == token; });
}

}  // namespace

TEST(contradictions, tokens) {
    check_refused("no tokens", [](Recipe& recipe) { recipe.vocabulary.clear(), recipe.merges.clear(); });
    check_refused("a byte is missing", [](Recipe& recipe) { drop(recipe, "z"); });
    check_refused("a byte is missing", [](Recipe& recipe) { drop(recipe, byte_level("\n")); });
    check_refused("a byte is missing", [](Recipe& recipe) { drop(recipe, "<0x0A>"); }, Words::sentence_pieces);
    check_refused("two tokens of one id",
                  [](Recipe& recipe) { recipe.vocabulary.emplace_back("xy", recipe.vocabulary[7].second); });
    check_refused("one token twice", [](Recipe& recipe) { recipe.vocabulary.emplace_back("ab", 1000); });
    check_refused(
        "two tokens of one text", [](Recipe& recipe) { recipe.vocabulary.emplace_back("ab", 1000); }, Words::sentence_pieces);
    check_refused("too large an id", [](Recipe& recipe) { recipe.vocabulary.emplace_back("xy", 1u << 30); });
    check_refused("the largest id", [](Recipe& recipe) { recipe.vocabulary.emplace_back("xy", 0xFFFFFFFF); });
}

TEST(contradictions, merges) {
    check_refused("no such left part", [](Recipe& recipe) { recipe.merges.emplace_back("xx", "b"); });
    check_refused("no such right part", [](Recipe& recipe) { recipe.merges.emplace_back("a", "xx"); });
    check_refused("no such result", [](Recipe& recipe) { recipe.merges.emplace_back("b", "a"); });
    check_refused("no parts", [](Recipe& recipe) { recipe.merges.emplace_back("", ""); });
    check_refused(
        "a byte merges",
        [](Recipe& recipe) {
            recipe.vocabulary.emplace_back("<0x0A>a", 1000);
            recipe.merges.emplace_back("<0x0A>", "a");
        },
        Words::sentence_pieces);
}

TEST(contradictions, added_tokens) {
    check_refused("an empty one", [](Recipe& recipe) { recipe.added.push_back({.text = "", .id = 901, .normalized = false}); });
    check_refused("two of one text",
                  [](Recipe& recipe) { recipe.added.push_back({.text = "<|end|>", .id = 901, .normalized = false}); });
    check_refused("two of one text, once normalised", [](Recipe& recipe) {
        recipe.nfc = true;
        recipe.added.push_back({.text = "\u00E9", .id = 901, .normalized = true});
        recipe.added.push_back({.text = "e\u0301", .id = 902, .normalized = true});
    });
}

TEST(contradictions, spaces) {
    check_refused("a space before words", [](Recipe& recipe) { recipe.prepend_space = true; });
}

TEST(contradictions, names) {
    for (const auto words : kByteLevelWords) CHECK(words_named(name_of(words)) == words, name_of(words));
    CHECK(words_named("sentence_pieces") == Words::sentence_pieces);
    for (const auto* const name : {"", "gpt3", "GPT2", "gpt2 "}) {
        bool known = true;
        try {
            words_named(name);
        } catch (const std::invalid_argument&) {
            known = false;
        }
        CHECK(!known, name);
    }
}

// What files in use do have: ids out of order and unused, merges that never happen, tokens that no text gives.
TEST(contradictions, none) {
    auto recipe = sound(Words::gpt2);
    recipe.vocabulary.emplace_back("\u4E2D", 1000);
    recipe.vocabulary.emplace_back("unreachable", 2000);
    recipe.merges.emplace_back("a", "b");
    recipe.added.push_back({.text = "ab", .id = 901, .normalized = false});
    recipe.added.push_back({.text = "ab", .id = 902, .normalized = true});
    CHECK(!refused(recipe));
    const Encoder encoder(recipe);
    CHECK(encode(encoder, "xabx").size() == 3);
    CHECK(encode(encoder, "unreachable").size() > 1);
}

}  // namespace rm_grpc::tests
