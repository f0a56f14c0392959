// Linear merging against the definition.
#include "check.h"
#include "merging.h"
#include "plain.h"
#include "recipes.h"

namespace rm_grpc::tests {

namespace {

const std::vector<std::string> kTwo{"a", "b"}, kThree{"a", "b", "c"}, kSix{"a", "b", "c", "d", "\n", "\xFF"};

// By search, and where the word is short enough, by rank as well.
IdList merge(Merger& merger, std::string_view word) {
    const Exact exact(word);
    const auto merged = [&](auto way) {
        IdList ids(word.size());
        ids.resize(static_cast<std::size_t>((merger.*way)(exact.view(), ids.data()) - ids.data()));
        return ids;
    };
    const auto ids = merged(&Merger::merge_by_search);
    CHECK(merged(&Merger::merge) == ids, quoted(word));
    if (word.size() <= Merger::kFew) CHECK(merged(&Merger::merge_by_rank) == ids, quoted(word));
    return ids;
}

struct Merging {
    explicit Merging(const Recipe& recipe) : vocabulary(recipe), plain(recipe, vocabulary) {}

    Vocabulary vocabulary;
    PlainMerges plain;
};

void check_word(const PlainMerges& plain, Merger& warm, std::string_view word) {
    const auto expected = plain.merge(word);
    CHECK(merge(warm, word) == expected, quoted(word));
    CHECK(merge(warm, word) == expected, "the second time", quoted(word));
}

void check_words(Random& random, const Merging& merging, const std::vector<std::string>& units) {
    Merger warm(merging.vocabulary);
    for (unsigned count = 0; count < 60; ++count)
        check_word(merging.plain, warm, random_word(random, units, random.between(1, 12)));
    for (unsigned count = 0; count < 4; ++count)
        check_word(merging.plain, warm, random_word(random, units, random.between(30, 300)));
    const auto word = random_word(random, units, 40);
    Merger cold(merging.vocabulary);
    CHECK(merge(cold, word) == merging.plain.merge(word), quoted(word));
}

// Runs of one letter are where merges overlap themselves.
void check_runs(const Merging& merging, const std::vector<std::string>& units) {
    Merger merger(merging.vocabulary);
    for (const auto& unit : units) {
        std::string word;
        for (unsigned length = 1; length <= 40; ++length) check_word(merging.plain, merger, word += unit);
    }
}

void check_every_word(const Merging& merging, const std::vector<std::string>& units, std::size_t longest) {
    Merger merger(merging.vocabulary);
    std::vector<std::string> words{""};
    for (std::size_t length = 1; length <= longest; ++length) {
        std::vector<std::string> longer;
        for (const auto& word : words)
            for (const auto& unit : units) longer.push_back(word + unit);
        words = std::move(longer);
        for (const auto& word : words) CHECK(merge(merger, word) == merging.plain.merge(word), quoted(word));
    }
}

void check_pairs(const Merging& merging) {
    const auto& vocabulary = merging.vocabulary;
    const Merger merger(vocabulary);
    std::vector<TokenId> tokens;
    for (TokenId token = 0; token < vocabulary.size(); ++token) {
        // Most bytes have no merge at all: one of them stands for the others.
        const auto text = vocabulary.text(token);
        const bool idle = text.size() == 1 && text != "a" && text != "b" && text != "c" && text != "~";
        if (!idle && vocabulary.origin(token).reachable) tokens.push_back(token);
    }
    for (const auto left : tokens) {
        for (const auto right : tokens) {
            const auto joined = std::string(vocabulary.text(left)).append(vocabulary.text(right));
            const bool apart = merging.plain.merge(joined) == IdList{static_cast<std::int32_t>(left), static_cast<std::int32_t>(right)};
            CHECK(merger.stay_apart(left, right) == apart, quoted(vocabulary.text(left)), quoted(vocabulary.text(right)));
        }
    }
}

void check_grown(Random& random, const Grown& grown, const std::vector<std::string>& units) {
    const Merging merging(byte_level_recipe(random, Words::gpt2, grown));
    check_words(random, merging, units);
    check_runs(merging, units);
    check_pairs(merging);
}

}  // namespace

TEST(merging, trained) {
    Random random(1);
    for (unsigned round = 0; round < 30; ++round) {
        const auto& units = round % 2 == 0 ? kThree : kSix;
        std::string text;
        while (text.size() < 600) text += random_word(random, units, random.between(2, 30)) + ' ';
        check_grown(random, train(text, false, random.between(1, 80)), units);
    }
}

TEST(merging, ranks_of_tokens) {
    Random random(2);
    for (unsigned round = 0; round < 60; ++round) {
        const auto& units = round % 3 == 0 ? kTwo : round % 3 == 1 ? kThree : kSix;
        check_grown(random, rank_splits(random, units, random.between(1, 60)), units);
    }
}

TEST(merging, tangled) {
    Random random(3);
    for (unsigned round = 0; round < 80; ++round) {
        const auto& units = round % 3 == 0 ? kTwo : round % 3 == 1 ? kThree : kSix;
        check_grown(random, tangle(random, units, random.between(1, 50)), units);
    }
}

TEST(merging, every_short_word) {
    Random random(4);
    for (unsigned round = 0; round < 40; ++round) {
        const auto& units = round % 2 == 0 ? kTwo : kThree;
        const Merging merging(byte_level_recipe(random, Words::gpt2, grow(random, units, random.between(1, 14))));
        check_every_word(merging, units, round % 2 == 0 ? 10 : 6);
    }
}

TEST(merging, sentence_pieces) {
    Random random(5);
    const auto& all = sentence_piece_units();
    for (unsigned round = 0; round < 60; ++round) {
        std::vector<std::string> units{all.front()};
        for (std::size_t at = 1; at < all.size(); ++at)
            if (random.chance(60)) units.push_back(all[at]);
        const auto grown = grow(random, units, random.between(1, 60), true);
        const Merging merging(sentence_piece_recipe(random, units, grown));
        // Texts of the core have spaces where tokens are written with U+2581, and characters that are no tokens.
        auto letters = all;
        letters.insert(letters.end(), {" ", " ", "z", "\u00DF", "\u6587", "\U0001F680"});
        letters.erase(letters.begin());
        check_words(random, merging, letters);
    }
}

TEST(merging, every_byte) {
    Random random(6);
    std::vector<std::string> units;
    for (unsigned byte = 0; byte < 256; ++byte) units.emplace_back(1, static_cast<char>(byte));
    for (unsigned round = 0; round < 6; ++round) {
        const Merging merging(byte_level_recipe(random, Words::gpt2, tangle(random, units, 2000)));
        check_words(random, merging, units);
    }
}

}  // namespace rm_grpc::tests
