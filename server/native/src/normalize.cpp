#include "normalize.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "unicode_tables.h"
#include "utf8.h"

namespace rm_grpc {

namespace {

using Byte = unsigned char;
using unicode::kChanges;
using unicode::kOpen;
using unicode::kOrderMask;
using unicode::kSecond;

namespace hangul {

// As the Unicode standard names them, in its section on conjoining jamo.
constexpr char32_t kL = 0x1100, kV = 0x1161, kT = 0x11A7, kS = 0xAC00;
constexpr char32_t kLs = 19, kVs = 21, kTs = 28, kSs = kLs * kVs * kTs;

constexpr bool is_syllable(char32_t code) { return code - kS < kSs; }

constexpr char32_t compose(char32_t first, char32_t second) {
    if (first - kL < kLs && second - kV < kVs) return kS + ((first - kL) * kVs + (second - kV)) * kTs;
    const bool takes_tail = is_syllable(first) && (first - kS) % kTs == 0;
    return takes_tail && second > kT && second - kT < kTs ? first + (second - kT) : 0;
}

}  // namespace hangul

// The composite of two code points, 0 where they have none.
char32_t composite(char32_t first, char32_t second) {
    if (const auto syllable = hangul::compose(first, second)) return syllable;
    const auto seconds = unicode::pair_seconds.begin();
    const auto firsts = unicode::pair_firsts.begin();
    const auto [from, to] = std::equal_range(seconds, unicode::pair_seconds.end(), second);
    const auto begin = firsts + (from - seconds);
    const auto end = firsts + (to - seconds);
    const auto found = std::lower_bound(begin, end, first);
    if (found == end || *found != first) return 0;
    return unicode::pair_composites[static_cast<std::size_t>(found - firsts)];
}

// The place of a code point among those that decompose, and their number where it has none. Hangul
// syllables have none, for they decompose by arithmetic.
std::size_t decomposing_index(char32_t code) {
    const auto& all = unicode::decomposing;
    const auto found = std::lower_bound(all.begin(), all.end(), code);
    return found != all.end() && *found == code ? static_cast<std::size_t>(found - all.begin()) : all.size();
}

bool decomposes(char32_t code) {
    return hangul::is_syllable(code) || decomposing_index(code) != unicode::decomposing.size();
}

constexpr std::size_t kBlock = 64;  // what the last byte of a UTF-8 sequence tells apart

// Whether blocks of the code points that three bytes reach are inert throughout. The rows of the table are looked at instead of
// the code points, for compilers limit how much they evaluate.
constexpr auto kInertBlocks = [] {
    constexpr std::size_t kRow = 128, kHalves = kRow / kBlock;
    std::array<bool, unicode::trait_rows.size() / kBlock> halves{};
    for (std::size_t half = 0; half < halves.size(); ++half) {
        halves[half] = true;
        for (std::size_t at = half * kBlock; halves[half] && at < (half + 1) * kBlock; ++at)
            halves[half] = (unicode::trait_rows[at] & (kOrderMask | kChanges | kSecond)) == 0;
    }
    std::array<bool, 0x10000 / kBlock> blocks{};
    for (std::size_t block = 0; block < blocks.size(); ++block)
        blocks[block] = halves[unicode::trait_pages[block / kHalves] * kHalves + block % kHalves];
    return blocks;
}();

bool starts_inert_pair(const Byte* at) noexcept { return (*at & 0xE0) == 0xC0 && kInertBlocks[*at & 0x1Fu]; }

bool starts_inert_triple(const Byte* at) noexcept {
    return (*at & 0xF0) == 0xE0 && kInertBlocks[(*at & 0xFu) * kBlock + (at[1] & 0x3Fu)];
}

// Behind the ASCII at `at`.
const Byte* skip_ascii(const Byte* at, const Byte* end) noexcept {
    constexpr std::uint64_t kHighBits = 0x8080808080808080;
    std::array<std::uint64_t, 4> words;
    while (end - at >= 8) {
        std::memcpy(words.data(), at, 8);
        if (const auto high = words[0] & kHighBits; high != 0) {
            const bool little = std::endian::native == std::endian::little;
            return at + (little ? std::countr_zero(high) : std::countl_zero(high)) / 8;
        }
        at += 8;
        for (; end - at >= 32; at += 32) {
            std::memcpy(words.data(), at, 32);
            if (((words[0] | words[1] | words[2] | words[3]) & kHighBits) != 0) break;
        }
    }
    while (at != end && *at < 0x80) ++at;
    return at;
}

// Whether `code`, which may come second in a composition, might join the starter that nothing blocks it from.
bool may_join(char32_t starter, char32_t code, unsigned order) noexcept {
    if ((unicode::traits_of(starter) & kOpen) == 0) return false;
    // A mark may come to stand before marks that are part of the starter.
    return (order != 0 && decomposes(starter)) || composite(starter, code) != 0;
}

// Where to normalise from: the last starter before the first doubt whether it is NFC; the end without doubt.
// (A starter is of no combining class; marks, which follow it, are ordered by theirs.)
const Byte* first_doubt(const Byte* at, const Byte* const end) noexcept {
    const Byte* starter = at;
    unsigned last = 0;  // order of the character before `at`
    while (at != end) {
        const auto* const from = at;
        if (*at < 0x80) {
            at = skip_ascii(at, end);
            starter = at - 1;
        } else if (*at < 0xE0) {
            while (end - at >= 2 && starts_inert_pair(at)) at += 2;
            if (at != from) starter = at - 2;
        } else {
            while (end - at >= 3 && starts_inert_triple(at)) at += 3;
            if (at != from) starter = at - 3;
        }
        if (at != from) {
            last = 0;
            continue;
        }
        const auto [code, length] = utf8::decode(at, end);
        const unsigned traits = unicode::traits_of(code);
        const unsigned order = traits & kOrderMask;
        // Not `&&`: which characters are marks no branch predictor guesses.
        const bool disorder = (order != 0) & (order < last);
        if (disorder | ((traits & (kChanges | kSecond)) != 0)) {
            if (disorder || (traits & kChanges) != 0) return starter;
            const bool blocked = last != 0 && last >= order;
            if (!blocked && may_join(utf8::decode(starter, end).code, code, order)) return starter;
        }
        starter = order == 0 ? at : starter;
        last = order;
        at += length;
    }
    return end;
}

// Normalises stretches of text the slow way, by the algorithm of the Unicode standard.
class Composer {
  public:
    void add(char32_t code) {
        if (hangul::is_syllable(code)) {
            const auto index = code - hangul::kS;
            units_.push_back({hangul::kL + index / hangul::kTs / hangul::kVs, 0});
            units_.push_back({hangul::kV + index / hangul::kTs % hangul::kVs, 0});
            if (const auto tail = index % hangul::kTs; tail != 0) units_.push_back({hangul::kT + tail, 0});
            return;
        }
        const auto found = decomposing_index(code);
        if (found == unicode::decomposing.size()) return add_plain(code);
        for (unsigned part = unicode::part_offsets[found]; part != unicode::part_offsets[found + 1]; ++part)
            add_plain(unicode::parts[part]);
    }

    void finish(std::string& out) {
        sort_marks();
        compose();
        for (const auto& unit : units_) utf8::append(out, unit.code);
        units_.clear();
    }

  private:
    struct Unit {
        char32_t code;
        unsigned order;
    };

    void add_plain(char32_t code) {
        units_.push_back({code, unicode::traits_of(code) & unsigned{kOrderMask}});
    }

    void sort_marks() {
        const auto is_mark = [](const Unit& unit) { return unit.order != 0; };
        for (auto at = units_.begin(); at != units_.end();) {
            const auto begin = std::find_if(at, units_.end(), is_mark);
            at = std::find_if_not(begin, units_.end(), is_mark);
            if (at - begin > 1) std::ranges::stable_sort(begin, at, {}, &Unit::order);
        }
    }

    void compose() {
        std::size_t size = 0, starter = 0;
        for (const auto unit : units_) {
            if (size != 0 && units_[starter].order == 0) {
                const bool adjacent = starter + 1 == size;
                const bool blocked = !adjacent && units_[size - 1].order >= unit.order;
                auto& code = units_[starter].code;
                if (const auto joined = blocked ? 0 : composite(code, unit.code); joined != 0) {
                    code = joined;
                    continue;
                }
            }
            if (unit.order == 0) starter = size;
            units_[size++] = unit;
        }
        units_.resize(size);
    }

    std::vector<Unit> units_;
};

}  // namespace

bool is_nfc(std::string_view utf8) noexcept {
    const auto* begin = reinterpret_cast<const Byte*>(utf8.data());
    const auto* end = begin + utf8.size();
    return first_doubt(begin, end) == end;
}

void to_nfc(std::string_view utf8, std::string& out) {
    out.clear();
    out.reserve(utf8.size());
    const auto* at = reinterpret_cast<const Byte*>(utf8.data());
    const auto* const end = at + utf8.size();
    Composer composer;
    while (at != end) {
        const auto* const doubt = first_doubt(at, end);
        out.append(reinterpret_cast<const char*>(at), static_cast<std::size_t>(doubt - at));
        at = doubt;
        // Nothing before an inert character has to do with it, so that the scan can go on there.
        while (at != end) {
            const auto [code, length] = utf8::decode(at, end);
            if (at != doubt && unicode::nfc_inert(code)) break;
            composer.add(code);
            at += length;
        }
        composer.finish(out);
    }
}

}  // namespace rm_grpc
