#include "texts.h"

#include <algorithm>
#include <array>

#include "utf8.h"

namespace rm_grpc::tests {

namespace {

using Pieces = std::vector<std::string_view>;

// A group is chosen first, so that each weighs the same however many members it has.
const std::vector<Pieces>& groups() {
    using namespace std::string_view_literals;
    static const std::vector<Pieces> groups{
        {"a", "b", "e", "s", "t", "z", "A", "B", "S", "Z"},
        {"the", "The", "HTTP", "camelCase", "XMLHttp", "iPhone"},
        {"'s", "'t",  "'re", "'ve",     "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve",
         "'M", "'lL", "'D",  "'\u017F", "'r", "'l",  "'v", "'",  "''", "'st", "'\u0455"},
        {"\u2019s", "\u2019", "\u2018", "\u201C", "\u201D", "\u00AB", "\u2014", "\u2026"},
        {" ", "  ", "   ", "        "},
        {"\n", "\r\n", "\r", "\n\n", "\n \n", "\n\n\n"},
        {"\t", "\v", "\f", "\u0085", "\u00A0", "\u3000", "\u2003", "\u2028", "\u202F", "\u205F", "\u1680"},
        {"0", "1", "7", "12", "345", "6789"},
        {"\u0663", "\u0967", "\u00B2", "\u2160", "\u00BD", "\U0001D7D8", "\u2460", "\uFF15"},
        {".", ",", "!", "?", "-", "_", "(", ")", "[", "]", "{", "}",
         "=", "+", "$", "^", "`", "~", "|", "<", ">", "#", "@", "%"},
        {"/", "//", "/\n", "\n/", ".\n", "!/\r\n", "*/\n", "./", "-/-"},
        {"\u4E2D", "\u6587", "\u9FA5", "\u9FA6", "\u4E00", "\u3042", "\u30AB", "\u30FC", "\u3040", "\u30FF", "\u309B", "\u30FB",
         "\u3400", "\uAC00", "\u3001", "\u3002", "\uFF01"},
        {"\u0431", "\u044B", "\u0416", "\u042F", "\u0434\u0430", "\u041D\u0435\u0442", "\u03B1", "\u03A9", "\u00E9", "\u00C9",
         "\u00DF"},
        {"\u01C5", "\u01C8", "\u02B0", "\u02BC", "\u1D2C", "\u00AA", "\u05D0", "\u0627", "\u0E01", "\u0915", "\u017F",
         "\u212A"},
        {"\u0301", "\u0308", "\u0327", "\u0338", "\u05B7", "\u064E", "\u093F", "\u20DD", "\uFE0F", "\u0E31", "\u3099"},
        {"\u0000"sv, "\u0001", "\u001B", "\u007F", "\u0080", "\u200B", "\u200D", "\uFEFF", "\u00AD", "\uE000", "\U000E0001",
         "\u0378", "\uFFFD", "\uFFFF", "\U0010FFFF"},
        {"\U0001F600", "\U0001F468\u200D\U0001F469", "\U0001F1E9\U0001F1EA", "\u2764\uFE0F", "\u20AC", "\u2211", "\u2190",
         "\U0001D400"},
        {"\u2581", "<|", "|>", "<|end|>", "<s>", "</s>"},
    };
    return groups;
}

}  // namespace

std::string random_text(Random& random, std::size_t bytes) {
    // Most texts keep to a few groups, or else no word would ever be long.
    std::vector<const Pieces*> some;
    for (auto count = random.between(1, 6); count > 0; --count) some.push_back(&random.pick(groups()));
    const bool spaced = random.chance(40);
    std::string text;
    while (text.size() < bytes) {
        const auto& group = random.chance(92) ? *random.pick(some) : random.pick(groups());
        const auto piece = random.pick(group);
        const auto times = random.chance(85) ? random.between(1, 3) : random.between(1, 70);
        for (std::size_t time = 0; time < times; ++time) text += random.chance(50) ? piece : random.pick(group);
        if (spaced && random.chance(40)) text += ' ';
    }
    return text;
}

std::string random_bytes(Random& random, std::size_t bytes) {
    static constexpr std::array<unsigned char, 24> kOdd{0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE2, 0xED, 0xEF,
                                                        0xF0, 0xF4, 0xF5, 0xFF, 0xA0, 0x9F, 0x90, 0x8F, ' ',  'a',  '\'', '\n'};
    std::string text = random.chance(50) ? random_text(random, bytes) : std::string();
    while (text.size() < bytes) text += static_cast<char>(random.chance(70) ? random.pick(kOdd) : random.below(256));
    for (auto changes = random.between(1, bytes / 8 + 1); changes > 0; --changes) {
        const auto at = random.below(text.size());
        if (random.chance(50)) {
            text[at] = static_cast<char>(random.pick(kOdd));
        } else {
            text.erase(at, 1);
            text += static_cast<char>(random.below(256));
        }
    }
    return text;
}

std::string random_word(Random& random, const std::vector<std::string>& alphabet, std::size_t length) {
    std::string word;
    for (std::size_t count = 0; count < length;) {
        const auto& unit = random.pick(alphabet);
        for (auto run = random.chance(80) ? 1 : random.between(2, 12); run > 0 && count < length; --run, ++count) word += unit;
    }
    return word;
}

std::vector<std::string> characters(std::string_view text) {
    std::vector<std::string> found;
    const auto* at = reinterpret_cast<const unsigned char*>(text.data());
    for (const auto* end = at + text.size(); at != end;) {
        const auto length = utf8::decode(at, end).length;
        found.emplace_back(reinterpret_cast<const char*>(at), length);
        at += length;
    }
    return found;
}

bool is_utf8(std::string_view text) {
    const auto all = characters(text);
    return std::none_of(all.begin(), all.end(), [](const auto& one) { return one.size() == 1 && (one[0] & 0x80) != 0; });
}

}  // namespace rm_grpc::tests
