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

// How many ids take as much room as the text of a word.
std::size_t room_of_text(const Word& word) { return (word.length + sizeof(std::int32_t) - 1) / sizeof(std::int32_t); }

}  // namespace

WordCache::WordCache(const Vocabulary& vocabulary, const std::unordered_map<std::string_view, TokenId>& stubborn)
    : merger_(vocabulary), stubborn_(stubborn), lines_(std::size_t{1} << kLineBits), pool_(kPool) {
    for (TokenId token = 0; token < vocabulary.size(); ++token)
        if (vocabulary.origin(token).reachable) seed(vocabulary.text(token), token);
    for (const auto& [text, token] : stubborn) seed(text, token);
}

// A word of one token, known before it is met: more than a third of the words that a text is first to bring are. Tokens of low
// ids are the frequent ones, and come first.
void WordCache::seed(std::string_view text, TokenId token) {
    if (text.size() >= kShort) return;
    const auto* const begin = reinterpret_cast<const Byte*>(text.data());
    const auto key = key_of({begin, static_cast<std::uint32_t>(text.size())}, begin + text.size());
    auto& slots = lines_[line_of(key)].slots;
    auto* const free = std::find_if(std::begin(slots), std::end(slots), [](const Slot& slot) { return slot.key == Key{}; });
    if (free != std::end(slots)) *free = {.key = key, .ids = {token, 0, 0, 1u << 24}};
}

// Keys first, so that the lines they lead to are on their way from memory while the next are made.
std::int32_t* WordCache::append(std::span<const Word> words, const Byte* readable, std::int32_t* out) {
    Key keys[kBatch];
    std::uint32_t places[kBatch];
    for (std::size_t at = 0; at < words.size(); ++at) {
        if (words[at].length >= kLong) continue;
        keys[at] = words[at].length < kShort ? key_of(words[at], readable) : key_of_long(words[at]);
        places[at] = static_cast<std::uint32_t>(line_of(keys[at]));
        __builtin_prefetch(&lines_[places[at]], 1);
    }
    for (std::size_t at = 0; at < words.size(); ++at) {
        if (words[at].length >= kLong) {
            out = merge(words[at], out);
            continue;
        }
        auto& line = lines_[places[at]];
        if (words[at].length >= kShort) [[unlikely]]
            out = append_other(keys[at], line, words[at], out);
        else if (line.slots[0].key == keys[at])
            out = copy(line.slots[0], out);
        else if (line.slots[1].key == keys[at])
            out = copy(line.slots[1], out);
        else
            out = append_other(keys[at], line, words[at], out);
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

inline WordCache::Key WordCache::key_of_long(const Word& word) {
    return {hash_of(text_of(word)), std::uint64_t{word.length} << 56};
}

inline std::int32_t* WordCache::copy(const Slot& slot, std::int32_t* out) {
    using Lanes = std::uint32_t __attribute__((vector_size(16)));
    Lanes ids;
    std::memcpy(&ids, slot.ids, sizeof ids);
    ids &= Lanes{~0u, ~0u, ~0u, 0xFFFFFF};
    std::memcpy(out, &ids, sizeof ids);
    return out + (slot.ids[3] >> 24);
}

// A word that no slot holds whole.
std::int32_t* WordCache::append_other(const Key& key, Line& line, const Word& word, std::int32_t* out) {
    if (auto* const end = append_pooled(key, line, word, out)) return end;
    auto* const end = merge(word, out);
    const auto count = static_cast<std::size_t>(end - out);
    const bool is_whole = word.length < kShort && count <= 4;
    line.slots[1] = line.slots[0];
    auto& slot = line.slots[0];
    if (is_whole) {
        slot = {.key = key, .ids = {}};
        std::copy(out, end, slot.ids);
        slot.ids[3] |= static_cast<std::uint32_t>(count) << 24;
    } else {
        slot = {.key = key.pooled(), .pooled = {keep_in_pool(word, out, count), static_cast<std::uint32_t>(count)}};
    }
    return end;
}

// Null where the pool does not hold the word.
inline std::int32_t* WordCache::append_pooled(const Key& key, const Line& line, const Word& word, std::int32_t* out) const {
    const auto pooled = key.pooled();
    for (const auto& slot : line.slots) {
        if (!(slot.key == pooled) || written_ > slot.pooled.place + kPool) continue;
        const auto* from = &pool_[slot.pooled.place % kPool];
        if (word.length >= kShort) {
            if (std::memcmp(from, word.begin, word.length) != 0) continue;
            from += room_of_text(word);
        }
        return std::copy_n(from, slot.pooled.count, out);
    }
    return nullptr;
}

// Where it lies now. No record reaches across the end of the pool.
std::uint64_t WordCache::keep_in_pool(const Word& word, const std::int32_t* ids, std::size_t count) {
    const auto text = word.length >= kShort ? room_of_text(word) : 0;
    if (written_ % kPool + text + count > kPool) written_ += kPool - written_ % kPool;
    const auto place = written_;
    auto* const to = &pool_[place % kPool];
    if (text != 0) std::memcpy(to, word.begin, word.length);
    std::copy_n(ids, count, to + text);
    written_ += text + count;
    return place;
}

std::int32_t* WordCache::merge(const Word& word, std::int32_t* out) {
    const auto text = text_of(word);
    if (!stubborn_.empty()) {
        if (const auto found = stubborn_.find(text); found != stubborn_.end()) {
            *out = static_cast<std::int32_t>(found->second);
            return out + 1;
        }
    }
    return merger_.merge(text, out);
}

}  // namespace rm_grpc
