// Time grows with the length of a text and no faster. The bound is generous: ten times the text may take sixty times as long,
// where quadratic work takes a hundred times.
#include <algorithm>
#include <chrono>

#include "check.h"
#include "encoder.h"
#include "plain.h"
#include "recipes.h"

namespace rm_grpc::tests {

namespace {

constexpr std::size_t kShort = 100'000, kLong = 1'000'000;
constexpr double kBound = 60;

std::string repeated(std::string_view unit, std::size_t bytes) {
    std::string text;
    text.reserve(bytes + unit.size());
    while (text.size() < bytes) text += unit;
    return text;
}

// The least of `times` measurements.
double seconds(const Encoder& encoder, const std::string& text, unsigned times) {
    double least = 1e9;
    for (unsigned time = 0; time < times; ++time) {
        const auto started = std::chrono::steady_clock::now();
        CHECK(!encode(encoder, text).empty());
        least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    }
    return least;
}

void check_linear(const Encoder& encoder, Words words, std::string_view unit) {
    const auto quick = std::max(seconds(encoder, repeated(unit, kShort), 3), 1e-4);
    const auto text = repeated(unit, kLong);
    auto slow = seconds(encoder, text, 1);
    if (slow > kBound * quick) slow = seconds(encoder, text, 2);  // something else may have taken the processor
    CHECK(slow <= kBound * quick, name_of(words), quoted(unit), slow, "s against", quick, "s");
}

Recipe recipe_of(Words words) {
    Random random(1);
    Grown grown;
    // Runs of 2, 4, 8 and on: the merges that overlap most.
    for (const std::string unit : {"a", " ", "ab", "\n", "A"}) {
        const bool space = words == Words::sentence_pieces && unit == " ";
        std::string run = space ? "\u2581" : unit;
        if (run.size() == 2) {
            grown.tokens.push_back(run);
            grown.merges.emplace_back("a", "b");
        }
        for (unsigned doubling = 0; doubling < 5; ++doubling, run += run) {
            grown.tokens.push_back(run + run);
            grown.merges.emplace_back(run, run);
        }
    }
    auto recipe = words == Words::sentence_pieces
                      ? sentence_piece_recipe(random, {"\u2581", "a", "b", "\n", "A", "<", "|"}, grown)
                      : byte_level_recipe(random, words, grown);
    recipe.nfc = words == Words::qwen2 || words == Words::o200k;
    recipe.added = {{.text = "<|end|>", .id = 900},
                    {.text = "||||||||>", .id = 901},
                    {.text = "\u0301!", .id = 902, .normalized = words == Words::qwen2},
                    {.text = "<s>", .id = 903, .strips_left = true, .strips_right = true}};
    return recipe;
}

void check_units(Words words, std::initializer_list<std::string_view> units) {
    const Encoder encoder(recipe_of(words));
    for (const auto unit : units) check_linear(encoder, words, unit);
}

}  // namespace

TEST(speed, one_letter) {
    for (const auto words : kByteLevelWords) check_units(words, {"a"});
    check_units(Words::sentence_pieces, {"a", "ab", "aab"});
}

TEST(speed, spaces) {
    for (const auto words : kByteLevelWords) check_units(words, {" ", "\n ", "\u3000"});
    check_units(Words::sentence_pieces, {" ", "\u2581", " a"});
}

TEST(speed, words_that_scanners_search) {
    for (const auto words : {Words::gpt2, Words::cl100k, Words::o200k, Words::deepseek})
        check_units(words, {"A", "A\u4E2D", "'s", "'", "!", "7", "\u0301", "\x01", "\u4E2D", "\u00E9", "!\n", "/\n"});
}

TEST(speed, added_tokens) {
    check_units(Words::gpt2, {"<", "<|", "|", "<|end|>", "<|end|", "<s>  "});
    check_units(Words::sentence_pieces, {"<|", "<|end|>"});
}

TEST(speed, added_tokens_that_are_white_space_and_strip) {
    for (const bool left : {true, false}) {
        auto recipe = recipe_of(Words::gpt2);
        recipe.added = {{.text = "\n", .id = 900, .strips_left = left, .strips_right = !left}};
        check_linear(Encoder(recipe), Words::gpt2, "\n");
    }
}

TEST(speed, marks) { check_units(Words::qwen2, {"\u0301", "\u0301\u0323", "a\u0301", "\u1100\u1161", "\u0301!"}); }

// Merges in the order of tiktoken's ranks, where a pair of tokens is judged by merging its text.
TEST(speed, ranks_of_tokens) {
    Random random(2);
    const Encoder encoder(byte_level_recipe(random, Words::cl100k, rank_splits(random, {"a", "b"}, 60)));
    for (const auto* const unit : {"a", "ab", "aab", "abbab"}) check_linear(encoder, Words::cl100k, unit);
    check_linear(encoder, Words::cl100k, random_word(random, {"a", "b"}, 5000));
}

}  // namespace rm_grpc::tests
