// Words that were met before, and their ids: one for each thread, of a fixed size.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>

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

    WordCache(const Vocabulary& vocabulary, const std::unordered_map<std::string_view, TokenId>& stubborn);

    // Writes the ids of words and returns the place behind them; up to four more are written over. At most one id a byte
    // counts. Text may be read up to `readable`, which is the end of the words or behind it.
    std::int32_t* append(std::span<const Word> words, const Byte* readable, std::int32_t* out);

  private:
    // Up to fifteen bytes of a word; else a hash. The length is in the last byte.
    struct Key {
        std::uint64_t low, high;

        bool operator==(const Key& other) const { return ((low ^ other.low) | (high ^ other.high)) == 0; }

        // What stands in the place of a word that lies in the pool.
        Key pooled() const { return {low, high | kPooled}; }
    };
    static constexpr std::uint64_t kPooled = std::uint64_t{1} << 63;

    // A word of up to fifteen bytes and four ids, the last of which holds their number in its highest byte as well; or where
    // one of more lies in the pool, and its number of ids.
    struct Slot {
        Key key{};
        union {
            std::uint32_t ids[4] = {};
            struct {
                std::uint64_t place;
                std::uint32_t count;
            } pooled;
        };
    };

    // Two places for words of the same hash, the later one first.
    struct alignas(64) Line {
        Slot slots[2];
    };

    static constexpr std::size_t kShort = 16;
    static constexpr std::size_t kLong = 128;  // words from here on are not kept
    static constexpr unsigned kLineBits = 18;
    static constexpr std::size_t kPool = std::size_t{1} << 20;

    static Key key_of(const Word& word, const Byte* readable);
    static Key key_of_long(const Word& word);
    static std::size_t line_of(const Key& key) {
        const auto mixed = (key.low ^ (key.high * kOdd)) * kOther;
        return mixed >> (64 - kLineBits);
    }
    static std::int32_t* copy(const Slot& slot, std::int32_t* out);

    std::int32_t* append_other(const Key& key, Line& line, const Word& word, std::int32_t* out);
    std::int32_t* append_pooled(const Key& key, const Line& line, const Word& word, std::int32_t* out) const;
    std::uint64_t keep_in_pool(const Word& word, const std::int32_t* ids, std::size_t count);
    void seed(std::string_view text, TokenId token);
    std::int32_t* merge(const Word& word, std::int32_t* out);

    Merger merger_;
    const std::unordered_map<std::string_view, TokenId>& stubborn_;
    Large<Line> lines_;
    // What does not fit into a line, one behind the other: the text of a long word, and ids. Where the end is reached, the oldest
    // are written over; what lies more than kPool behind `written_` is gone.
    Large<std::int32_t> pool_;
    std::uint64_t written_ = 0;
};

}  // namespace rm_grpc
