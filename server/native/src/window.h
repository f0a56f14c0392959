// Where words start in the next 64 bytes, all at once: a bit for each byte, and arithmetic on the bits.
//
// It says the same as words.h. What depends on bytes behind the window, or on a character that is too rare to be worth bits,
// is left open: such a window is cut short, and where nothing is certain the caller asks the plain scanner for one word.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "instructions.h"
#include "words.h"

namespace rm_grpc::words {

using Bits = std::uint64_t;

constexpr Bits below(unsigned bit) { return bit >= 64 ? ~Bits{0} : (Bits{1} << bit) - 1; }
constexpr Bits lowest(Bits bits) { return bits & (~bits + 1); }

// For each bit of `seeds` and on through `through`, to where `through` first has none.
constexpr Bits flood(Bits seeds, Bits through) {
    seeds &= through;
    for (unsigned step = 1; step < 64; step *= 2) {
        seeds |= through & (seeds << step);
        through &= through << step;
    }
    return seeds;
}

template <Rules R>
class Window {
  public:
    // `at` is the start of a word, and 64 bytes stand there.
    Window(const Byte* at, Classify classify) : at_(at) {
        read_ascii(classify);
        if (wide_ != 0) read_wide();
        known_bits_ = below(known_);
        letter_ &= known_bits_, number_ &= known_bits_, space_ &= known_bits_, blank_ &= known_bits_;
        newline_ &= known_bits_;
        plain_ = known_bits_ & ~(letter_ | number_ | white());
    }

    // The starts of words behind the first byte, as far as they are certain.
    Bits starts() {
        Bits found = 0;
        if constexpr (R.family == Rules::Family::gpt2) found = gpt2();
        if constexpr (R.family == Rules::Family::cl100k) found = cl100k();
        if constexpr (R.family == Rules::Family::o200k) found = o200k();
        if constexpr (R.family == Rules::Family::deepseek) found = deepseek();
        return found & certain() & ~Bits{1};
    }

  private:
    void read_ascii(Classify classify) {
        AsciiMasks masks;
        classify(at_, masks);
        wide_ = masks.high;
        letter_ = masks.letter, number_ = masks.digit, space_ = masks.space, blank_ = masks.blank, newline_ = masks.newline;
        apostrophe_ = masks.apostrophe;
        if constexpr (R.family == Rules::Family::gpt2) blank_ |= newline_, newline_ = 0;  // newlines are nothing special
        if constexpr (R.family == Rules::Family::o200k) {
            slash_ = masks.slash, upper_ = masks.upper, lower_ = masks.letter & ~masks.upper;
        }
        if constexpr (R.family == Rules::Family::deepseek) {
            const auto odd = masks.control & ~(masks.blank | masks.newline);
            if (odd != 0) known_ = static_cast<unsigned>(std::countr_zero(odd));
        }
    }

    // Characters beyond ASCII: each sets the bits of all its bytes.
    void read_wide() {
        for (auto rest = wide_ & below(known_); rest != 0;) {
            const auto place = static_cast<unsigned>(std::countr_zero(rest));
            const auto lead = at_[place];
            const unsigned length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
            if (place + length > 64) return stop(place);
            const auto c = Scanner<R>::look(at_ + place, at_ + 64);
            const auto bits = below(c.length) << place;
            rest &= ~bits;
            inner_ |= bits & ~lowest(bits);
            if (!add(c, bits)) return stop(place);
        }
    }

    bool add(const Character& c, Bits bits) {
        if constexpr (R.family == Rules::Family::deepseek) {
            if (c.type == Class::other) return false;
            if (is_cjk(c.code)) cjk_ |= bits;
        }
        if constexpr (R.family == Rules::Family::o200k) {
            if (c.type == Class::mark) return false;
            if (is_upper(c.type)) upper_ |= bits;
            if (is_lower(c.type)) lower_ |= bits;
            if (is_caseless(c.type)) caseless_ |= bits;
        }
        if (Scanner<R>::letter(c.type)) letter_ |= bits;
        if (c.type == Class::number) number_ |= bits;
        if (c.type == Class::space) blank_ |= bits;
        return true;
    }

    void stop(unsigned place) { known_ = std::min(known_, place); }

    Bits white() const { return space_ | blank_ | newline_; }

    // Bits up to the last place whose start does not depend on what stands behind the window: white space may go on, and a
    // contraction needs three bytes more.
    Bits certain() const {
        if (known_ == 0) return 0;
        if ((white() >> (known_ - 1) & 1) != 0) {
            const auto others = known_bits_ & ~white();
            return others == 0 ? 0 : below(65 - static_cast<unsigned>(std::countl_zero(others)));
        }
        return known_ > 4 ? below(known_ - 3) : 0;
    }

    // The first bytes of the characters whose last bytes are given.
    Bits first_of(Bits last) const {
        auto found = last & ~inner_;
        for (auto rest = last & inner_; rest != 0; rest &= inner_) {
            rest >>= 1;
            found |= rest & ~inner_;
        }
        return found;
    }

    // The first bytes of the characters behind those whose first bytes are given.
    Bits behind(Bits first) const {
        auto next = first << 1;
        auto found = next & ~inner_;
        for (auto rest = next & inner_; rest != 0; rest &= inner_) {
            rest <<= 1;
            found |= rest & ~inner_;
        }
        return found;
    }

    static Bits run_starts(Bits runs) { return runs & ~(runs << 1); }

    // Starts inside and at the beginning of white space. `absorbed` belongs to the word before it; `split` are the last bytes
    // of white space behind which the last character is left to the next word.
    Bits white_starts(Bits absorbed, Bits split, bool newlines) const {
        const auto inside = white() & ~absorbed;
        auto found = run_starts(inside) | first_of(split);
        if (!newlines) return found;
        const auto spaces = space_ | blank_;
        auto tails = run_starts(spaces) & ((newline_ & ~absorbed) << 1);
        // \s*[\r\n]+ goes on over them to a newline that follows.
        for (auto ends = spaces & (newline_ >> 1); ends != 0; ends &= ends - 1) {
            const auto before = ~spaces & (lowest(ends) - 1);
            tails &= ~(before == 0 ? Bits{1} : Bits{1} << (64 - std::countl_zero(before)));
        }
        return found | tails;
    }

    // Last bytes of white space that something known and not white follows.
    Bits white_ends() const { return (space_ | blank_) & ((known_bits_ & ~white()) >> 1); }

    // Every third digit, and every one where they stand alone.
    Bits number_starts() const {
        if constexpr (R.digits == 1) return number_ & ~inner_;
        auto found = run_starts(number_);
        if (R.digits == kAnyNumber || (number_ & number_ << 1 & number_ << 2 & number_ << 3) == 0) return found;
        unsigned count = 0;
        Bits previous = 0;
        for (auto rest = number_ & ~inner_; rest != 0; rest &= rest - 1) {
            const auto place = lowest(rest);
            count = behind(previous) == place ? count + 1 : 0;
            if (count % R.digits == 0) found |= place;
            previous = place;
        }
        return found;
    }

    // Newlines (and slashes) that belong to the punctuation before them.
    Bits tail_of(Bits punctuation) const {
        const auto seeds = newline_ & (punctuation << 1);
        if (seeds == 0) return 0;
        if constexpr (R.slash_tail) return flood(seeds, newline_ | slash_);
        return newline_ & ~(newline_ + seeds);
    }

    Bits gpt2() const {
        auto ends = white_ends();
        if (R.digits_apart) ends &= ~(number_ >> 1);
        const auto words = (run_starts(letter_) | run_starts(plain_)) & ~(space_ << 1);
        auto found = white_starts(0, ends, false) | number_word_starts() | words;
        for (auto marks = apostrophe_ & words & (letter_ >> 1); marks != 0; marks &= marks - 1) {
            const auto place = static_cast<unsigned>(std::countr_zero(marks));
            const auto length = contraction(at_ + place, at_ + 64, false);
            if (length == 0) continue;
            found &= ~(Bits{2} << place);
            if (place + length < 64) found |= Bits{1} << (place + length);
        }
        return found;
    }

    Bits number_word_starts() const {
        if constexpr (R.digits_apart) return number_ & ~inner_;
        return run_starts(number_) & ~(space_ << 1);
    }

    // Letters whose word begins with the single other character before them.
    Bits led(Bits leads) const {
        auto found = leads << 1;
        if ((leads & wide_) != 0) found |= behind(leads & wide_);
        return found & run_starts(letter_);
    }

    Bits cl100k() const {
        const auto absorbed = tail_of(plain_);
        const auto leads = run_starts(plain_) & ~(space_ << 1);
        auto found = white_starts(absorbed, white_ends(), true) | number_starts() | leads;
        found |= run_starts(letter_) & ~((space_ | blank_) << 1) & ~led(leads);
        for (auto marks = apostrophe_ & leads & (letter_ >> 1); marks != 0; marks &= marks - 1) {
            const auto place = static_cast<unsigned>(std::countr_zero(marks));
            const auto length = contraction(at_ + place, at_ + 64, true);
            if (length != 0 && place + length < 64) found |= Bits{1} << (place + length) & letter_;
        }
        return found;
    }

    Bits o200k() {
        if (caseless_ != 0 && (upper_ & known_bits_) != 0) stop_at_mixed_words();
        const auto absorbed = tail_of(plain_);
        const auto others = plain_ & ~absorbed;
        const auto leads = run_starts(others) & ~(space_ << 1);
        auto found = white_starts(absorbed, white_ends(), true) | number_starts() | leads;
        found |= run_starts(letter_) & ~((space_ | blank_) << 1) & ~led(leads);
        found |= (absorbed << 1) & ~absorbed;
        found |= upper_ & (lower_ << 1);
        if constexpr (R.contractions) found = without_contractions(found);
        return found;
    }

    // A caseless letter may count as upper or as lower case, which depends on all of its word: such a word is left to the
    // scanner where it has upper case as well.
    void stop_at_mixed_words() {
        for (auto runs = run_starts(letter_); runs != 0; runs &= runs - 1) {
            const auto start = lowest(runs);
            const auto run = letter_ & ~(letter_ + start) & ~(start - 1);
            if ((run & caseless_) == 0 || (run & upper_) == 0) continue;
            stop(static_cast<unsigned>(std::countr_zero(start)));
            known_bits_ = below(known_);
            return;
        }
    }

    // A contraction belongs to the word before it.
    Bits without_contractions(Bits found) const {
        unsigned end = 0;
        for (auto marks = apostrophe_ & (letter_ << 1) & (letter_ >> 1); marks != 0; marks &= marks - 1) {
            const auto place = static_cast<unsigned>(std::countr_zero(marks));
            if (place == end) continue;
            const auto length = contraction(at_ + place, at_ + 64, true);
            if (length == 0) continue;
            end = place + length;
            found &= ~(below(end) & ~below(place));
            if (end < 64) found |= Bits{1} << end;
        }
        return found;
    }

    Bits deepseek() const {
        const auto punctuation = plain_;
        const auto cut = (cjk_ ^ cjk_ << 1) & known_bits_;  // where a piece of the second split begins
        const auto absorbed = tail_of(punctuation & ~cjk_);
        const auto starts = run_starts(punctuation) | (punctuation & cut);
        const auto leads = starts & ~(space_ << 1 & ~cut);
        const auto words = run_starts(letter_) | (letter_ & cut);
        const auto ascii_word = letter_ & ~wide_;
        const auto led_words = (leads & ~wide_) << 1 & run_starts(ascii_word) & words;
        auto found = white_starts(absorbed, white_ends() & ~((number_ | cut) >> 1), true) | number_starts() | leads;
        found |= words & ~((space_ | blank_) << 1 & ~cut) & ~led_words;
        found |= number_ << 1 & ~number_ & ~inner_;
        if ((wide_ & letter_) != 0) found |= led_words_end(led_words);
        return found;
    }

    // [A-Za-z]+ behind punctuation ends where another letter goes on.
    Bits led_words_end(Bits led_words) const {
        const auto ascii = letter_ & ~wide_;
        Bits found = 0;
        for (; led_words != 0; led_words &= led_words - 1) {
            const auto start = lowest(led_words);
            found |= (ascii + start) & ~ascii & letter_;
        }
        return found;
    }

    const Byte* at_;
    unsigned known_ = 64;  // bytes that are known; what stands behind them may be anything
    Bits known_bits_ = 0;
    Bits wide_ = 0, inner_ = 0;  // not ASCII; bytes of a character behind its first
    Bits letter_ = 0, number_ = 0, space_ = 0, blank_ = 0, newline_ = 0, plain_ = 0;
    Bits upper_ = 0, lower_ = 0, caseless_ = 0, cjk_ = 0;
    Bits apostrophe_ = 0, slash_ = 0;
};

}  // namespace rm_grpc::words
