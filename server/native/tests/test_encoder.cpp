// The whole way from text to ids, and what it remembers on the way.
#include <atomic>
#include <cstdlib>
#include <thread>

#include "check.h"
#include "encoder.h"
#include "plain.h"
#include "recipes.h"

namespace rm_grpc::tests {

namespace {

std::vector<Words> all_words() {
    std::vector<Words> words(std::begin(kByteLevelWords), std::end(kByteLevelWords));
    words.push_back(Words::sentence_pieces);
    return words;
}

void check_text(const PlainEncoder& reference, const Encoder& encoder, std::string_view kind, std::string_view text) {
    check_shrunk(text, [&](std::string_view part) {
        for (const bool plain : {false, true}) {
            const auto expected = reference.encode(part, plain);
            for (const auto& one : instructions()) {
                const auto found = encode(encoder, part, {.plain = plain, .instructions = &one});
                CHECK(found == expected, kind, one.name, plain ? "plain" : "", quoted(part));
            }
            CHECK(encode(encoder, part, {.plain = plain}) == expected, kind, quoted(part));
        }
    });
}

}  // namespace

TEST(encoder, texts) {
    Random random(1);
    for (const auto words : all_words()) {
        for (unsigned round = 0; round < 3; ++round) {
            const auto recipe = realistic_recipe(random, words);
            const Encoder encoder(recipe);
            const PlainEncoder reference(recipe, encoder.vocabulary());
            check_text(reference, encoder, name_of(words), "");
            for (unsigned count = 0; count < 50; ++count)
                check_text(reference, encoder, name_of(words),
                           random_text(random, random.between(1, random.chance(30) ? 1500 : 150)));
        }
    }
}

TEST(encoder, malformed_texts) {
    Random random(2);
    for (const auto words : kByteLevelWords) {
        auto recipe = realistic_recipe(random, words);
        recipe.nfc = false;
        for (auto& token : recipe.added) token.strips_left = token.strips_right = false;
        const Encoder encoder(recipe);
        const PlainEncoder reference(recipe, encoder.vocabulary());
        for (unsigned count = 0; count < 150; ++count) {
            const auto text = random_bytes(random, random.between(1, 300));
            check_text(reference, encoder, name_of(words), text);
            CHECK(text_of(encoder.vocabulary(), encode(encoder, text, {.plain = true})) == text, quoted(text));
        }
    }
    const Encoder pieces(realistic_recipe(random, Words::sentence_pieces));
    auto recipe = realistic_recipe(random, Words::qwen2);
    recipe.nfc = true;
    const Encoder normalizing(recipe);
    for (unsigned count = 0; count < 300; ++count) {
        const auto text = random_bytes(random, random.between(1, 300));
        encode(pieces, text);
        encode(normalizing, text);
    }
}

TEST(encoder, several_texts) {
    Random random(3);
    const Encoder encoder(realistic_recipe(random, Words::cl100k));
    std::vector<std::string> texts{"", "a", ""};
    for (unsigned count = 0; count < 50; ++count) texts.push_back(random_text(random, random.below(400)));
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    Ids ids;
    std::vector<std::int64_t> ends{0};
    encoder.encode(views, {}, ids, ends);
    encoder.encode(views, {}, ids, ends);
    CHECK(ends.size() == 2 * texts.size() + 1);
    for (std::size_t at = 0; at + 1 < ends.size(); ++at) {
        const IdList found(ids.data() + ends[at], ids.data() + ends[at + 1]);
        CHECK(found == encode(encoder, texts[at % texts.size()]), at);
    }
}

TEST(encoder, remembers_words) {
    Random random(4);
    for (const auto words : {Words::gpt2, Words::o200k, Words::sentence_pieces}) {
        const auto recipe = realistic_recipe(random, words);
        const Encoder encoder(recipe);
        const auto text = random_text(random, 3000);
        const auto expected = PlainEncoder(recipe, encoder.vocabulary()).encode(text);
        for (unsigned time = 0; time < 3; ++time) CHECK(encode(encoder, text) == expected, name_of(words), time);
    }
}

// More words than are kept, of all lengths about those at which they are kept elsewhere.
TEST(encoder, forgets_words) {
    Random random(5);
    auto recipe = realistic_recipe(random, Words::gpt2);
    recipe.added.clear();
    recipe.nfc = false;
    const Encoder encoder(recipe);
    const auto first = random_text(random, 5000);
    const auto expected = encode(encoder, first);
    CHECK(expected == PlainEncoder(recipe, encoder.vocabulary()).encode(first));
    const std::vector<std::string> letters{"a", "e", "s", "t", "th", "z", "\u00E9", "\u0431"};
    std::vector<std::pair<std::string, IdList>> kept;
    for (unsigned part = 0; part < 40; ++part) {
        std::string text;
        for (unsigned count = 0; count < 5000; ++count) {
            const auto length = random.chance(5) ? random.between(60, 140) : random.between(1, 24);
            text += ' ' + random_word(random, letters, length);
        }
        const auto ids = encode(encoder, text);
        CHECK(text_of(encoder.vocabulary(), ids) == text, part);
        if (part % 10 == 0) kept.emplace_back(text, ids);
    }
    CHECK(encode(encoder, first) == expected);
    for (const auto& [text, ids] : kept) CHECK(encode(Encoder(recipe), text) == ids);
    for (const auto& [text, ids] : kept) CHECK(encode(encoder, text) == ids);
}

// Pieces between added tokens are kept as a whole, and there are more here than that: ones that come again, and new ones.
TEST(encoder, remembers_segments) {
    Random random(8);
    auto recipe = realistic_recipe(random, Words::qwen2);
    recipe.added = {{.text = "<|end|>", .id = 9000}, {.text = "zz", .id = 9001, .normalized = true}};
    const Encoder encoder(recipe);
    const PlainEncoder reference(recipe, encoder.vocabulary());
    std::vector<std::pair<std::string, IdList>> known;
    for (unsigned count = 0; count < 60; ++count) {
        const auto text = random_text(random, random.between(30, 200));
        known.emplace_back(text, reference.encode(text));
    }
    const auto marker = reference.encode("<|end|>");
    for (unsigned round = 0; round < 400; ++round) {
        std::string text;
        IdList expected;
        for (unsigned part = 0; part < 5; ++part) {
            const auto& [segment, ids] = random.pick(known);
            text += segment + "<|end|>";
            expected.insert(expected.end(), ids.begin(), ids.end());
            expected.insert(expected.end(), marker.begin(), marker.end());
        }
        CHECK(encode(encoder, text) == expected, quoted(text));
        const auto fresh = std::to_string(round) + std::string(30'000, 'e');
        CHECK(encode(encoder, fresh, {.plain = true}) == encode(encoder, fresh), round);
    }
}

TEST(encoder, threads) {
    Random random(6);
    const auto recipe = realistic_recipe(random, Words::cl100k);
    const Encoder encoder(recipe);
    const PlainEncoder reference(recipe, encoder.vocabulary());
    std::vector<std::string> texts;
    std::vector<IdList> expected;
    for (unsigned count = 0; count < 60; ++count) {
        texts.push_back(random_text(random, 600));
        expected.push_back(reference.encode(texts.back()));
    }
    std::atomic<unsigned> wrong = 0;
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < 6; ++thread) {
        threads.emplace_back([&, thread] {
            for (std::size_t at = 0; at < 10 * texts.size(); ++at) {
                const auto text = (at * (thread + 1)) % texts.size();
                if (encode(encoder, texts[text]) != expected[text]) ++wrong;
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0, wrong);
}

TEST(encoder, ids_grow) {
    Random random(7);
    Ids ids;
    std::vector<std::int32_t> expected;
    for (unsigned round = 0; round < 2000; ++round) {
        const auto count = random.below(round % 50 == 0 ? 5000 : 20);
        auto* out = ids.open(count + random.below(8));
        for (std::size_t at = 0; at < count; ++at) {
            const auto id = static_cast<std::int32_t>(random.below(1u << 31));
            *out++ = id;
            expected.push_back(id);
        }
        ids.close(out);
    }
    CHECK(IdList(ids.data(), ids.data() + ids.size()) == expected);
    const auto size = ids.size();
    auto* const released = ids.release();
    const IdList found(released, released + size);
    std::free(released);
    CHECK(found == expected && ids.size() == 0);
    *ids.open(1) = 7;
    Ids none;
    std::free(none.release());
}

}  // namespace rm_grpc::tests
