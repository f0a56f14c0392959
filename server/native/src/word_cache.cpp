#include "word_cache.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace rm_grpc {

namespace {

struct Mask {
    std::uint64_t low, high;
};

// By length: the bytes of a key that belong to the word.
constexpr auto kMasks = [] {
    std::array<Mask, 16> masks{};
    for (unsigned length = 0; length < 16; ++length) {
        masks[length].low = length >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * length) - 1;
        masks[length].high = length <= 8 ? 0 : (std::uint64_t{1} << 8 * (length - 8)) - 1;
    }
    return masks;
}();

std::string_view text_of(const Word& word) { return {reinterpret_cast<const char*>(word.begin), word.length}; }

}  // namespace

WordCache::WordCache(const Vocabulary& vocabulary, const std::vector<std::pair<std::string, TokenId>>& stubborn)
    : merger_(vocabulary), stubborn_(stubborn), lines_(std::size_t{1} << kLineBits), long_(std::size_t{1} << kLongBits) {}

// Keys first, so that the lines they lead to are on their way from memory while the next are made.
std::int32_t* WordCache::append(std::span<const Word> words, const Byte* readable, std::int32_t* out) {
    Key keys[kBatch];
    std::uint32_t places[kBatch];
    for (std::size_t at = 0; at < words.size(); ++at) {
        if (words[at].length >= kShort) continue;
        keys[at] = key_of(words[at], readable);
        places[at] = static_cast<std::uint32_t>(line_of(keys[at]));
        __builtin_prefetch(&lines_[places[at]], 1);
    }
    for (std::size_t at = 0; at < words.size(); ++at) {
        if (words[at].length >= kShort) {
            out = append_long(words[at], out);
            continue;
        }
        auto& line = lines_[places[at]];
        if (line.slots[0].key == keys[at])
            out = copy(line.slots[0], out);
        else if (line.slots[1].key == keys[at])
            out = copy(line.slots[1], out);
        else
            out = append_new(keys[at], line, words[at], out);
    }
    return out;
}

inline WordCache::Key WordCache::key_of(const Word& word, const Byte* readable) {
    Key key{};
    if (readable - word.begin >= 16) [[likely]]
        std::memcpy(&key, word.begin, sizeof key);
    else
        std::memcpy(&key, word.begin, word.length);
    const auto& mask = kMasks[word.length];
    return {key.low & mask.low, (key.high & mask.high) | std::uint64_t{word.length} << 56};
}

inline std::int32_t* WordCache::copy(const Short& slot, std::int32_t* out) {
    using Lanes = std::uint32_t __attribute__((vector_size(16)));
    Lanes ids;
    std::memcpy(&ids, slot.ids, sizeof ids);
    ids &= Lanes{~0u, ~0u, ~0u, 0xFFFFFF};
    std::memcpy(out, &ids, sizeof ids);
    return out + (slot.ids[3] >> 24);
}

std::int32_t* WordCache::append_new(const Key& key, Line& line, const Word& word, std::int32_t* out) {
    const auto elsewhere = key.elsewhere();
    if (line.slots[0].key == elsewhere || line.slots[1].key == elsewhere) return append_long(word, out);
    auto* const end = merge(word, out);
    const auto count = static_cast<std::size_t>(end - out);
    line.slots[1] = line.slots[0];
    auto& slot = line.slots[0] = {.key = count <= 4 ? key : elsewhere, .ids = {}};
    if (count <= 4) {
        std::copy(out, end, slot.ids);
        slot.ids[3] |= static_cast<std::uint32_t>(count) << 24;
    } else {
        keep_long(hash_of(text_of(word)), word, out, count);
    }
    return end;
}

std::int32_t* WordCache::append_long(const Word& word, std::int32_t* out) {
    if (word.length > kLong) return merge(word, out);
    const auto hash = hash_of(text_of(word));
    const auto& slot = long_[hash >> (64 - kLongBits)];
    if (slot.hash == hash && slot.length == word.length && std::memcmp(&texts_[slot.text], word.begin, word.length) == 0)
        return std::copy_n(&ids_[slot.ids], slot.count, out);
    auto* const end = merge(word, out);
    keep_long(hash, word, out, static_cast<std::size_t>(end - out));
    return end;
}

void WordCache::keep_long(std::uint64_t hash, const Word& word, const std::int32_t* ids, std::size_t count) {
    if (texts_.size() + word.length > kMostText) {
        std::fill(long_.begin(), long_.end(), Long{});
        texts_.clear();
        ids_.clear();
    }
    long_[hash >> (64 - kLongBits)] = {hash, static_cast<std::uint32_t>(texts_.size()), static_cast<std::uint32_t>(ids_.size()),
                                       static_cast<std::uint16_t>(word.length), static_cast<std::uint16_t>(count)};
    texts_.insert(texts_.end(), word.begin, word.begin + word.length);
    ids_.insert(ids_.end(), ids, ids + count);
}

std::int32_t* WordCache::merge(const Word& word, std::int32_t* out) {
    const auto text = text_of(word);
    if (!stubborn_.empty()) {
        const auto at = std::lower_bound(stubborn_.begin(), stubborn_.end(), text,
                                         [](const auto& one, std::string_view other) { return one.first < other; });
        if (at != stubborn_.end() && at->first == text) {
            *out = static_cast<std::int32_t>(at->second);
            return out + 1;
        }
    }
    return merger_.merge(text, out);
}

}  // namespace rm_grpc
