// NFC: examples of the Unicode standard, and what holds for all texts.
#include "check.h"
#include "normalize.h"
#include "plain.h"
#include "texts.h"

namespace rm_grpc::tests {

namespace {

std::string nfc(std::string_view text) {
    const Exact exact(text);
    std::string out = "what was there before";
    to_nfc(exact.view(), out);
    return out;
}

void check_nfc(std::string_view text, std::string_view expected) {
    CHECK(nfc(text) == expected, quoted(text), "gives", quoted(nfc(text)));
    CHECK(!is_nfc(text) || text == expected, quoted(text));
    CHECK(nfc(expected) == expected, quoted(expected));
}

// Starters, marks of several classes, what composes and what never does.
const std::vector<std::string>& units() {
    static const std::vector<std::string> units{
        "a",          "e",          "o",          "A",          "s",          " ",      "\u00E9", "\u1E69", "\u01D6",
        "\u0344",     "\u212B",     "\u2126",     "\u0300",     "\u0301",     "\u0302", "\u0304", "\u0307", "\u0308",
        "\u031B",     "\u0323",     "\u0327",     "\u0328",     "\u0338",     "\u0345", "\u05B7", "\u05BC", "\u05D0",
        "\uFB2E",     "\u0915",     "\u093C",     "\u0958",     "\u09C7",     "\u09BE", "\u09CB", "\u0B47", "\u0B56",
        "\u0DD9",     "\u0DCF",     "\u0DCA",     "\u0F71",     "\u0F72",     "\u0F73", "\u1100", "\u1161", "\u11A8",
        "\uAC00",     "\uAC01",     "\u3099",     "\u304B",     "\u304C",     "\u30FD", "\uF900", "\u4E2D", "\U0001D15E",
        "\U0001D157", "\U0001D165", "\U00011099", "\U000110BA", "\U0002F800", "\u1EA5", "\u1FAF", "\u03B1", "\u0313",
        "\u03C9",     "\uFB1D"};
    return units;
}

}  // namespace

TEST(normalize, examples) {
    check_nfc("", "");
    check_nfc("plain text, and only that: long enough for several strides of 32 bytes",
              "plain text, and only that: long enough for several strides of 32 bytes");
    check_nfc("\u212B", "\u00C5");  // singleton
    check_nfc("\u2126", "\u03A9");
    check_nfc("A\u030A", "\u00C5");  // composite
    check_nfc("o\u0302", "\u00F4");
    check_nfc("s\u0323\u0307", "\u1E69");  // two marks
    check_nfc("s\u0307\u0323", "\u1E69");  // out of order
    check_nfc("\u1E0B\u0323", "\u1E0D\u0307");
    check_nfc("q\u0307\u0323", "q\u0323\u0307");  // that compose with nothing
    check_nfc("\uFB01", "\uFB01");                // compatibility characters stay
    check_nfc("\u0958", "\u0915\u093C");          // excluded from composition
    check_nfc("\u0344", "\u0308\u0301");
    check_nfc("\uAC00\u11A8", "\uAC01");  // Hangul
    check_nfc("\u1100\u1161\u11A8", "\uAC01");
    check_nfc("\u1100\u1161", "\uAC00");
    check_nfc("\uAC01\u11A8", "\uAC01\u11A8");
    check_nfc("\uF900", "\u8C48");  // CJK compatibility ideographs
    check_nfc("\U0002F800", "\u4E3D");
    check_nfc("\u304B\u3099", "\u304C");
    check_nfc("\U00011099\U000110BA", "\U0001109A");
    check_nfc("\U0001D15E", "\U0001D157\U0001D165");
    check_nfc("\u09C7\u09BE", "\u09CB");  // a second that is a starter
    check_nfc("a\u0301\u0301", "\u00E1\u0301");
    check_nfc("a\u0328\u0301\u0323", "\u0105\u0323\u0301");  // the mark below is blocked from nothing, and has no composite
    check_nfc("\u0301a", "\u0301a");
}

TEST(normalize, holds_for_all_texts) {
    Random random(1);
    for (unsigned round = 0; round < 30'000; ++round) {
        const auto text = round % 3 == 0 ? random_text(random, 100) : random_word(random, units(), random.between(1, 20));
        const auto normal = nfc(text);
        CHECK(nfc(normal) == normal, quoted(text), quoted(normal));
        if (is_nfc(text)) CHECK(normal == text, quoted(text), quoted(normal));
    }
}

// Nothing before an ASCII letter has to do with what stands behind it.
TEST(normalize, parts_stand_for_themselves) {
    Random random(2);
    for (unsigned round = 0; round < 5'000; ++round) {
        std::string whole, parts;
        for (unsigned part = 0; part < 6; ++part) {
            std::string text = "x";
            text.append(random_word(random, units(), random.below(9))).append(random.below(40), ' ');
            whole += text;
            parts += nfc(text);
        }
        CHECK(nfc(whole) == parts, quoted(whole));
    }
}

TEST(normalize, malformed_text) {
    Random random(3);
    for (unsigned round = 0; round < 10'000; ++round) {
        const auto text = random_bytes(random, random.between(1, 100));
        const Exact exact(text);
        if (is_nfc(exact.view())) CHECK(nfc(text) == text, quoted(text));
        nfc(text);
    }
}

}  // namespace rm_grpc::tests
