#include "added_tokens.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "utf8.h"
#include "words.h"

namespace rm_grpc {

namespace {

std::vector<std::pair<std::string_view, TokenId>> keys_of(const std::vector<AddedToken>& tokens) {
    std::vector<std::pair<std::string_view, TokenId>> keys;
    for (std::size_t at = 0; at < tokens.size(); ++at) keys.emplace_back(tokens[at].text, static_cast<TokenId>(at));
    std::sort(keys.begin(), keys.end());
    for (std::size_t at = 0; at < keys.size(); ++at) {
        if (keys[at].first.empty()) throw std::invalid_argument("an added token is empty");
        if (at > 0 && keys[at].first == keys[at - 1].first)
            throw std::invalid_argument("two added tokens have the text " + std::string(keys[at].first));
    }
    return keys;
}

// Lanes of bytes, which every compiler we support turns into the vectors that all its processors have.
using Lanes = unsigned char __attribute__((vector_size(16)));

bool any(Lanes found) {
    std::uint64_t halves[2];
    std::memcpy(halves, &found, sizeof halves);
    return (halves[0] | halves[1]) != 0;
}

bool is_space(const unsigned char* at, const unsigned char* end) {
    return words::is_blank(words::read(at, end).type);
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), trie_(keys_of(tokens_)) {
    for (const auto& token : tokens_) {
        const auto first = static_cast<unsigned char>(token.text[0]);
        if (!begins_[first]) first_bytes_.push_back(token.text[0]);
        begins_[first] = true;
    }
}

const unsigned char* AddedTokens::candidate(const unsigned char* at, const unsigned char* end) const {
    if (first_bytes_.size() == 1) {
        const auto* const found = std::memchr(at, first_bytes_[0], static_cast<std::size_t>(end - at));
        return found == nullptr ? end : static_cast<const unsigned char*>(found);
    }
    if (first_bytes_.size() <= 8) {
        for (; end - at >= 16; at += 16) {
            Lanes bytes, found{};
            std::memcpy(&bytes, at, sizeof bytes);
            for (const char first : first_bytes_) found |= static_cast<Lanes>(bytes == (Lanes{} + static_cast<unsigned char>(first)));
            if (any(found)) break;
        }
    }
    while (at != end && !begins_[*at]) ++at;
    return at;
}

AddedTokens::Match AddedTokens::find(const unsigned char* at, const unsigned char* end) const {
    for (at = candidate(at, end); at != end; at = candidate(at + 1, end)) {
        const auto found = trie_.longest(at, end);
        if (found.token != kNoToken) return {at, at + found.length, &tokens_[found.token]};
    }
    return {end, end, nullptr};
}

const unsigned char* AddedTokens::without_space(const unsigned char* begin, const unsigned char* end) {
    while (end != begin) {
        const auto* last = end - 1;
        while (last != begin && utf8::is_continuation(*last)) --last;
        if (last + utf8::decode(last, end).length != end || !is_space(last, end)) break;
        end = last;
    }
    return end;
}

const unsigned char* AddedTokens::behind_space(const unsigned char* begin, const unsigned char* end) {
    while (begin != end && is_space(begin, end)) begin += utf8::decode(begin, end).length;
    return begin;
}

}  // namespace rm_grpc
