// Words that were met before, and their ids: one for each thread, of a fixed size.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hash.h"
#include "merging.h"

namespace rm_grpc {

// A word of a text: where it stands, and how long it is.
struct Word {
    const unsigned char* begin;
    std::uint32_t length;
};

class WordCache {
  public:
    using Byte = unsigned char;

    // Most words of one call of `append`.
    static constexpr std::size_t kBatch = 256;

    WordCache(const Vocabulary& vocabulary, const std::vector<std::pair<std::string, TokenId>>& stubborn);

    // Writes the ids of words and returns the place behind them; up to four more are written over. At most one id a byte
    // counts. Text may be read up to `readable`, which is the end of the words or behind it.
    std::int32_t* append(std::span<const Word> words, const Byte* readable, std::int32_t* out);

  private:
    // Up to fifteen bytes of a word, and their number in the last.
    struct Key {
        std::uint64_t low, high;

        bool operator==(const Key& other) const { return ((low ^ other.low) | (high ^ other.high)) == 0; }

        // What stands in the place of a word that has too many ids for it.
        Key elsewhere() const { return {low, high | std::uint64_t{1} << 63}; }
    };

    // A word of up to four ids. The last holds their number in its highest byte as well.
    struct Short {
        Key key{};
        std::uint32_t ids[4] = {};
    };

    // Two places for words of the same hash, the later one first.
    struct alignas(64) Line {
        Short slots[2];
    };

    // Longer words, and those of more ids; texts and ids lie in `texts_` and `ids_`.
    struct Long {
        std::uint64_t hash = 0;
        std::uint32_t text = 0, ids = 0;
        std::uint16_t length = 0, count = 0;
    };

    static constexpr std::size_t kShort = 16;
    static constexpr std::size_t kLong = 128;  // longer words are not kept
    static constexpr unsigned kLineBits = 17, kLongBits = 15;
    static constexpr std::size_t kMostText = std::size_t{1} << 21;

    static Key key_of(const Word& word, const Byte* readable);
    static std::size_t line_of(const Key& key) {
        const auto mixed = (key.low ^ (key.high * kOdd)) * kOther;
        return mixed >> (64 - kLineBits);
    }
    static std::int32_t* copy(const Short& slot, std::int32_t* out);

    std::int32_t* append_new(const Key& key, Line& line, const Word& word, std::int32_t* out);
    std::int32_t* append_long(const Word& word, std::int32_t* out);
    void keep_long(std::uint64_t hash, const Word& word, const std::int32_t* ids, std::size_t count);
    std::int32_t* merge(const Word& word, std::int32_t* out);

    Merger merger_;
    const std::vector<std::pair<std::string, TokenId>>& stubborn_;
    Large<Line> lines_;
    Large<Long> long_;
    std::vector<Byte> texts_;
    std::vector<std::int32_t> ids_;
};

}  // namespace rm_grpc
