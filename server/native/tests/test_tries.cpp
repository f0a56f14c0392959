// Tries and added tokens against searches that try everything.
#include <algorithm>
#include <set>

#include "added_tokens.h"
#include "check.h"
#include "plain.h"
#include "texts.h"

namespace rm_grpc::tests {

namespace {

using Tokens = std::vector<std::pair<std::string, TokenId>>;

const std::vector<std::string> kFew{"a", "b"}, kOdd{"a", std::string(1, '\0'), "\xFF", "\x80"}, kMarks{"<", "|", ">", "e", " "};
const std::vector<std::string> kWhite{" ", "\n", "\u3000", "\u00A0 ", "  "};

std::vector<std::string> all_bytes() {
    std::vector<std::string> units;
    for (unsigned byte = 0; byte < 256; ++byte) units.emplace_back(1, static_cast<char>(byte));
    return units;
}

Tokens random_tokens(Random& random, const std::vector<std::string>& units, std::size_t count, std::size_t longest) {
    std::set<std::string> texts;
    while (count-- > 0) texts.insert(random_word(random, units, random.between(1, longest)));
    Tokens tokens;
    TokenId id = 0;
    for (const auto& text : texts) tokens.emplace_back(text, id++);
    random.shuffle(tokens);
    return tokens;
}

Trie trie_of(const Tokens& tokens) {
    std::vector<std::pair<std::string_view, TokenId>> keys(tokens.begin(), tokens.end());
    return Trie(std::move(keys));
}

void check_longest(const Trie& trie, const Tokens& tokens, std::string_view text) {
    const Exact exact(text);
    const auto found = trie.longest(exact.begin(), exact.end());
    std::size_t length = 0;
    TokenId token = kNoToken;
    for (const auto& [key, id] : tokens)
        if (key.size() > length && text.starts_with(key)) length = key.size(), token = id;
    CHECK(found.token == token, quoted(text));
    CHECK(token == kNoToken || found.length == length, quoted(text));
}

std::vector<AddedToken> added_tokens(Random& random, const Tokens& tokens, bool strips) {
    std::vector<AddedToken> added;
    for (const auto& [text, id] : tokens)
        added.push_back({.text = text,
                         .id = id,
                         .normalized = false,
                         .strips_left = strips && random.chance(40),
                         .strips_right = strips && random.chance(40)});
    return added;
}

// Pieces as they come, and the tokens between them.
std::string shown(const AddedTokens& added, std::string_view text) {
    const Exact exact(text);
    std::string out;
    added.split(
        exact.begin(), exact.end(),
        [&](const unsigned char* begin, const unsigned char* end) {
            CHECK(begin < end);
            out += quoted({reinterpret_cast<const char*>(begin), static_cast<std::size_t>(end - begin)});
        },
        [&](TokenId id) { out += ' ' + std::to_string(id) + ' '; });
    return out;
}

void check_split(const AddedTokens& added, const std::vector<AddedToken>& tokens, std::string_view text) {
    std::string expected;
    split_naively(
        tokens, text, [&](std::string_view piece) { expected += quoted(piece); },
        [&](TokenId id) { expected += ' ' + std::to_string(id) + ' '; });
    CHECK(shown(added, text) == expected, quoted(text), expected);
}

}  // namespace

TEST(tries, longest) {
    Random random(1);
    const auto bytes = all_bytes();
    const std::vector<std::string>* const alphabets[] = {&kFew, &kOdd, &bytes};
    for (unsigned round = 0; round < 200; ++round) {
        const auto& units = *alphabets[round % 3];
        const auto tokens = random_tokens(random, units, random.below(120), random.chance(20) ? 40 : 6);
        const auto trie = trie_of(tokens);
        check_longest(trie, tokens, "");
        for (unsigned count = 0; count < 100; ++count) {
            auto text = random_word(random, units, random.between(1, 12));
            if (!tokens.empty() && random.chance(60)) text = random.pick(tokens).first + text;
            if (random.chance(30)) text.resize(random.between(1, text.size()));
            check_longest(trie, tokens, text);
        }
    }
}

TEST(tries, large) {
    Random random(2);
    const auto tokens = random_tokens(random, all_bytes(), 20'000, 5);
    const auto trie = trie_of(tokens);
    for (const auto& [text, id] : tokens) {
        const Exact exact(text);
        const auto found = trie.longest(exact.begin(), exact.end());
        CHECK(found.token == id && found.length == text.size(), quoted(text));
    }
    for (unsigned count = 0; count < 500; ++count) check_longest(trie, tokens, random_word(random, all_bytes(), 6));
}

TEST(tries, added_tokens) {
    Random random(3);
    const auto bytes = all_bytes();
    const std::vector<std::string>* const alphabets[] = {&kMarks, &kOdd, &kFew, &bytes};
    for (unsigned round = 0; round < 400; ++round) {
        const auto& units = *alphabets[round % 4];
        const bool of_characters = &units == &kMarks || &units == &kFew;  // only they have white space beside them
        const auto tokens = random_tokens(random, units, random.between(1, random.chance(50) ? 3 : 40), 7);
        const auto described = added_tokens(random, tokens, of_characters && random.chance(60));
        const AddedTokens added(described);
        CHECK(!added.empty());
        for (unsigned count = 0; count < 20; ++count) {
            std::string text;
            for (auto parts = random.below(12); parts > 0; --parts) switch (random.below(4)) {
                    case 0: text += random.pick(tokens).first; break;
                    case 1: text += random.pick(kWhite); break;
                    default: text += random_word(random, units, random.between(1, 30));
                }
            check_split(added, described, text);
            check_split(added, described, random_text(random, 80));
        }
    }
    CHECK(AddedTokens({}).empty());
    check_split(AddedTokens({}), {}, "text");
}

}  // namespace rm_grpc::tests
