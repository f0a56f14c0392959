// Where the words of a text end: the plain scanners, one character at a time. They are the ground truth of window.h.
//
// None of these regular expressions looks back, so that a word depends only on what stands behind its first byte.
#pragma once

#include <cstdint>

#include "recipe.h"
#include "unicode_tables.h"
#include "utf8.h"

namespace rm_grpc::words {

using Byte = unsigned char;
using unicode::Class;

// What tells the families apart. The regular expressions are those of the published tokenizers, and stand at their scanners.
struct Rules {
    enum class Family : std::uint8_t { gpt2, cl100k, o200k, deepseek } family;
    unsigned digits;         // most digits of a number
    bool marks = false;      // marks count as letters
    bool contractions = false;
    bool slash_tail = false;  // slashes follow punctuation as newlines do
    bool digits_apart = false;  // a split before the scanner's own takes each digit out
};

constexpr unsigned kAnyNumber = ~0u;

constexpr Rules rules_of(Words words) {
    using enum Rules::Family;
    switch (words) {
        case Words::gpt2_digits: return {.family = gpt2, .digits = 1, .contractions = true, .digits_apart = true};
        case Words::cl100k: return {.family = cl100k, .digits = 3, .contractions = true};
        case Words::qwen2: return {.family = cl100k, .digits = 1, .contractions = true};
        case Words::qwen3_5: return {.family = cl100k, .digits = 1, .marks = true, .contractions = true};
        case Words::o200k: return {.family = o200k, .digits = 3, .contractions = true, .slash_tail = true};
        case Words::tekken: return {.family = o200k, .digits = 1, .slash_tail = true};
        case Words::deepseek: return {.family = deepseek, .digits = 3, .marks = true};
        default: return {.family = gpt2, .digits = kAnyNumber, .contractions = true};
    }
}

constexpr bool is_letter(Class c) { return c >= Class::upper && c <= Class::letter; }
constexpr bool is_upper(Class c) { return c == Class::upper || c == Class::title; }
constexpr bool is_lower(Class c) { return c == Class::lower; }
// Letters that o200k takes for upper and lower case at once.
constexpr bool is_caseless(Class c) { return c == Class::modifier || c == Class::letter || c == Class::mark; }
constexpr bool is_blank(Class c) { return c == Class::space || c == Class::newline; }
constexpr bool is_punctuation(Class c) { return c == Class::punctuation || c == Class::symbol; }
constexpr bool is_ascii_letter(char32_t code) { return (code | 0x20) >= 'a' && (code | 0x20) <= 'z'; }

// DeepSeek's second split: [一-龥぀-ゟ゠-ヿ].
constexpr bool is_cjk(char32_t code) { return (code >= 0x4E00 && code <= 0x9FA5) || (code >= 0x3040 && code <= 0x30FF); }

// Digits of a newer Unicode than the regular expressions know: the split of digits that stands before them knows it.
constexpr bool is_newer_digit(char32_t code) {
    return (code >= 0x11DE0 && code <= 0x11DE9) || (code >= 0x16FF4 && code <= 0x16FF6);
}

struct Character {
    char32_t code;
    unsigned length;
    Class type;
};

inline Character read(const Byte* at, const Byte* end) {
    const auto [code, length] = utf8::decode(at, end);
    return {code, length, unicode::class_of(code)};
}

// The bytes of a contraction from its apostrophe on, 0 where there is none: 's 't 're 've 'm 'll 'd, in either case where
// `folded`; then U+017F is an s as well, as the regular expression engine has it.
inline unsigned contraction(const Byte* at, const Byte* end, bool folded) {
    const auto left = end - at;
    if (left < 2 || *at != '\'') return 0;
    const auto lower = [folded](Byte byte) -> Byte { return folded && byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte; };
    const auto first = lower(at[1]);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
    if (left < 3) return 0;
    const auto second = lower(at[2]);
    if ((first == 'r' || first == 'v') && second == 'e') return 3;
    if (first == 'l' && second == 'l') return 3;
    return folded && at[1] == 0xC5 && at[2] == 0xBF ? 3 : 0;
}

// Scans one word from its start. `end` is the end of the segment, where every lookahead ends.
template <Rules R>
class Scanner {
  public:
    explicit Scanner(const Byte* end) : end_(end) {}

    // The end of the word that starts at `at`, which is not the end of the segment.
    const Byte* next(const Byte* at) const {
        if constexpr (R.family == Rules::Family::gpt2) return gpt2(at);
        if constexpr (R.family == Rules::Family::cl100k) return cl100k(at);
        if constexpr (R.family == Rules::Family::o200k) return o200k(at);
        if constexpr (R.family == Rules::Family::deepseek) return deepseek(at);
    }

    static Character look(const Byte* at, const Byte* end) {
        auto c = read(at, end);
        if (R.digits_apart && is_newer_digit(c.code)) c.type = Class::number;
        return c;
    }

    static bool letter(Class c) { return is_letter(c) || (R.marks && c == Class::mark); }
    static bool plain(Class c) { return !letter(c) && c != Class::number && !is_blank(c); }

  private:
    static bool anywhere(const Character&) { return true; }

    // The end of the characters that pass the test, as far as the piece goes.
    template <class Test, class Inside = bool (*)(const Character&)>
    const Byte* run(const Byte* at, Test test, Inside inside = anywhere) const {
        while (at != end_) {
            const auto c = look(at, end_);
            if (!inside(c) || !test(c.type)) break;
            at += c.length;
        }
        return at;
    }

    const Byte* numbers(const Byte* at) const {
        for (unsigned count = 0; at != end_ && count < R.digits; ++count) {
            const auto c = look(at, end_);
            if (c.type != Class::number) break;
            at += c.length;
        }
        return at;
    }

    // The tail [\r\n]* or [\r\n/]* of punctuation.
    const Byte* tail(const Byte* at) const {
        while (at != end_ && (*at == '\r' || *at == '\n' || (R.slash_tail && *at == '/'))) ++at;
        return at;
    }

    // \s*[\r\n]+|\s+(?!\S)|\s+ from a blank on, and without the first where newlines are nothing special. The blanks end at
    // `end_` or where `stop` says that a piece ends.
    template <bool Newlines, class Stop>
    const Byte* blanks(const Byte* at, Stop stop) const {
        const Byte* const begin = at;
        const Byte *behind_newline = nullptr, *last = at;
        bool at_end = true;
        while (at != end_) {
            const auto c = look(at, end_);
            if (!is_blank(c.type)) {
                at_end = stop(c);
                break;
            }
            last = at;
            at += c.length;
            if (Newlines && c.type == Class::newline) behind_newline = at;
        }
        if (behind_newline != nullptr) return behind_newline;
        return at_end || last == begin ? at : last;
    }

    // '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    // and, where digits stand apart, each of them is cut out before.
    const Byte* gpt2(const Byte* at) const {
        if (const auto length = contraction(at, end_, false)) return at + length;
        const auto first = look(at, end_);
        if (R.digits_apart && first.type == Class::number) return at + first.length;
        const auto* const core = first.code == ' ' ? at + 1 : at;
        if (core != end_) {
            const auto c = look(core, end_).type;
            if (letter(c)) return run(core, letter);
            if (c == Class::number && !R.digits_apart) return numbers(core);
            if (plain(c)) return run(core, plain);
        }
        return blanks<false>(at, [](const Character& c) { return R.digits_apart && c.type == Class::number; });
    }

    // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
    // with \p{N} for Qwen, and [\p{L}\p{M}] and [^\s\p{L}\p{M}\p{N}] for Qwen 3.5.
    const Byte* cl100k(const Byte* at) const {
        if (const auto length = contraction(at, end_, true)) return at + length;
        const auto first = look(at, end_);
        if (letter(first.type)) return run(at, letter);
        if (first.type == Class::number) return numbers(at);
        const auto* const behind = at + first.length;
        if (behind != end_) {
            const auto c = look(behind, end_).type;
            if (first.type != Class::newline && letter(c)) return run(behind, letter);
            if (first.code == ' ' && plain(c)) return tail(run(behind, plain));
        }
        if (plain(first.type)) return tail(run(at, plain));
        return blanks<true>(at, [](const Character&) { return false; });
    }

    // [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
    // |[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
    // |\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
    // and for tekken \p{N}, and no contractions.
    const Byte* o200k(const Byte* at) const {
        const auto first = look(at, end_);
        if (first.type == Class::number) return numbers(at);
        const bool may_lead = !is_letter(first.type) && first.type != Class::newline;
        const auto* const behind = at + first.length;
        const Byte* found = may_lead ? lower_word(behind) : nullptr;
        if (found == nullptr) found = lower_word(at);
        if (found == nullptr && may_lead) found = upper_word(behind);
        if (found == nullptr) found = upper_word(at);
        if (found != nullptr) return R.contractions ? found + contraction(found, end_, true) : found;
        if (plain(first.type)) return tail(run(at, plain));
        if (first.code == ' ' && behind != end_ && plain(look(behind, end_).type)) return tail(run(behind, plain));
        return blanks<true>(at, [](const Character&) { return false; });
    }

    // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+, or null. The first part takes all it can and gives back, one
    // by one, until the second has one: that one is then the last caseless letter.
    const Byte* lower_word(const Byte* at) const {
        const Byte* behind_caseless = nullptr;
        while (at != end_) {
            const auto c = look(at, end_);
            if (!is_upper(c.type) && !is_caseless(c.type)) break;
            at += c.length;
            if (is_caseless(c.type)) behind_caseless = at;
        }
        if (at == end_ || !is_lower(look(at, end_).type)) return behind_caseless;
        return run(at, [](Class c) { return is_lower(c) || is_caseless(c); });
    }

    // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*, or null, where no `lower_word` is.
    const Byte* upper_word(const Byte* at) const {
        const auto* const end = run(at, [](Class c) { return is_upper(c) || is_caseless(c); });
        return end == at ? nullptr : end;
    }

    // \p{N}{1,3}, then [一-龥぀-ゟ゠-ヿ]+, then in what is left
    // [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*
    // |\s*[\r\n]+|\s+(?!\S)|\s+
    // A piece ends at a number, and where the second split begins or ends. What no alternative takes is a word as well.
    const Byte* deepseek(const Byte* at) const {
        const auto first = look(at, end_);
        if (first.type == Class::number) return numbers(at);
        const bool cjk = is_cjk(first.code);
        const auto inside = [cjk](const Character& c) { return c.type != Class::number && is_cjk(c.code) == cjk; };
        const auto* const behind = at + first.length;
        const auto second = behind == end_ ? Character{0, 0, Class::other} : look(behind, end_);
        const bool more = behind != end_ && inside(second);
        if (letter(first.type)) return run(at, letter, inside);
        if (is_punctuation(first.type)) {
            if (more && first.code < 0x80 && is_ascii_letter(second.code)) return ascii_letters(behind);
            return deepseek_tail(run(at, is_punctuation, inside), inside);
        }
        if (more && first.type != Class::newline && letter(second.type)) return run(behind, letter, inside);
        if (more && first.code == ' ' && is_punctuation(second.type))
            return deepseek_tail(run(behind, is_punctuation, inside), inside);
        if (is_blank(first.type)) return blanks<true>(at, [inside](const Character& c) { return !inside(c); });
        return unmatched(behind, inside);
    }

    template <class Inside>
    const Byte* deepseek_tail(const Byte* at, Inside inside) const {
        return at != end_ && inside(look(at, end_)) ? tail(at) : at;
    }

    const Byte* ascii_letters(const Byte* at) const {
        while (at != end_ && is_ascii_letter(*at)) ++at;
        return at;
    }

    // Characters that begin no match: neither letter, number, mark, punctuation, symbol nor blank, and no letter behind them.
    template <class Inside>
    const Byte* unmatched(const Byte* at, Inside inside) const {
        while (at != end_) {
            const auto c = look(at, end_);
            if (!inside(c) || c.type != Class::other) break;
            const auto* const behind = at + c.length;
            if (behind != end_) {
                const auto next = look(behind, end_);
                if (inside(next) && letter(next.type)) break;
            }
            at = behind;
        }
        return at;
    }

    const Byte* end_;
};

}  // namespace rm_grpc::words
