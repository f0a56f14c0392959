// Where words start: windows against the plain scanners, and these against what the regular expressions say.
#include "check.h"
#include "plain.h"
#include "recipes.h"

namespace rm_grpc::tests {

namespace {

void check_all_windows(std::string_view text) {
    for (const auto words : kByteLevelWords) check_windows(words, text);
}

std::string words_of(Words words, std::string_view text) {
    std::string joined;
    std::size_t begin = 0;
    for (const auto end : word_ends(words, text)) {
        if (begin != 0) joined += '|';
        joined += text.substr(begin, end - begin);
        begin = end;
    }
    return joined;
}

void check_cut(Words words, std::string_view cut) {
    std::string text;
    for (const char byte : cut)
        if (byte != '|') text += byte;
    const auto found = words_of(words, text);
    CHECK(found == cut, name_of(words), "cuts", quoted(found), "instead of", quoted(cut));
}

}  // namespace

// Worked out by hand from the regular expressions in words.h.
TEST(words, examples) {
    check_cut(Words::gpt2, "It|'s| 12345| o|'|Clock|...|  | go|\n|\n|now");
    check_cut(Words::gpt2, "a|  | b|\t|c| !?| \u4E2D");
    check_cut(Words::gpt2_digits, "a| |1|2|3|  |4|'ll");
    check_cut(Words::cl100k, "I|'M| x|123|456|7| |89|  | !\n\n|a|(b|.c|\n \n|  | d");
    check_cut(Words::qwen2, "1|2|a\u00E9|\u0301!");
    check_cut(Words::qwen3_5, "1|2|a\u0301b|!");
    check_cut(Words::o200k, "Camel|Case|HTTPServer's| it's|!/\n/| x");
    check_cut(Words::tekken, "it|'s| X|1|2|3");
    check_cut(Words::deepseek, "a|\u4E2D\u6587|b| |\u3042");
    check_cut(Words::deepseek, "12|\u4E2D\u6587|.a| b|1|.");
}

TEST(words, windows) {
    Random random(1);
    for (unsigned round = 0; round < 2500; ++round) check_all_windows(random_text(random, random.between(64, 900)));
}

// A window may be certain of nothing that depends on where the text ends.
TEST(words, windows_cut_anywhere) {
    Random random(2);
    for (unsigned round = 0; round < 60; ++round) {
        const auto text = random_text(random, 190);
        for (std::size_t length = 0; length <= text.size(); ++length) {
            const auto cut = std::string_view(text).substr(0, length);
            const bool inside = length < text.size() && (text[length] & 0xC0) == 0x80;
            if (!inside) check_all_windows(cut);
        }
    }
}

// Each pair of characters at each place of a window, between letters, spaces and digits.
TEST(words, windows_at_every_place) {
    Random random(3);
    const std::string_view fillers[] = {"a", " ", "1", "a ", "\u4E2D", "!", "A"};
    for (unsigned round = 0; round < 120; ++round) {
        const auto middle = random_text(random, 6);
        const auto filler = random.pick(fillers), other = random.pick(fillers);
        for (std::size_t place = 40; place < 66; ++place) {
            std::string text;
            while (text.size() < place) text += filler;
            text += middle;
            while (text.size() < 140) text += other;
            check_all_windows(text);
        }
    }
}

TEST(words, windows_of_malformed_text) {
    Random random(4);
    for (unsigned round = 0; round < 1500; ++round) check_all_windows(random_bytes(random, random.between(1, 400)));
}

}  // namespace rm_grpc::tests
