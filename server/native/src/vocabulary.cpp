#include "vocabulary.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <stdexcept>

#include "utf8.h"

namespace rm_grpc {

namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// The characters that byte-level vocabularies write bytes with (GPT-2): printable ones stand for themselves, the others are
// moved to U+0100 and on, in order.
std::array<char32_t, 256> byte_alphabet() {
    std::array<char32_t, 256> alphabet{};
    char32_t moved = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
        const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        alphabet[byte] = printable ? byte : moved++;
    }
    return alphabet;
}

std::array<short, 0x144> bytes_of_alphabet() {
    std::array<short, 0x144> bytes;
    bytes.fill(-1);
    const auto alphabet = byte_alphabet();
    for (unsigned byte = 0; byte < 256; ++byte) bytes[alphabet[byte]] = static_cast<short>(byte);
    return bytes;
}

// The bytes that a byte-level token stands for; empty where it holds a character outside the alphabet, which no text can give.
std::string from_byte_level(std::string_view token) {
    static const auto bytes = bytes_of_alphabet();
    std::string text;
    const auto* at = reinterpret_cast<const unsigned char*>(token.data());
    for (const auto* end = at + token.size(); at != end;) {
        const auto [code, length] = utf8::decode(at, end);
        if (code >= bytes.size() || bytes[code] < 0) return {};
        text.push_back(static_cast<char>(bytes[code]));
        at += length;
    }
    return text;
}

// A SentencePiece token with its spaces; empty where it holds a plain space, which normalised text never has.
std::string from_sentence_piece(std::string_view token) {
    if (token.find(' ') != std::string_view::npos) return {};
    std::string text;
    for (std::size_t at = 0; at < token.size();) {
        const bool space = token.substr(at, kSpace.size()) == kSpace;
        text.push_back(space ? ' ' : token[at]);
        at += space ? kSpace.size() : 1;
    }
    return text;
}

}  // namespace

PairTable::PairTable(std::size_t capacity) {
    const auto size = std::bit_ceil(std::max<std::size_t>(2 * capacity, 64));
    entries_.assign(size, kNothing);
    results_.resize(capacity);
    filter_.resize((size << kFilterBits) / 64);
    mask_ = size - 1;
    shift_ = 64 - static_cast<unsigned>(std::countr_zero(size));
}

void PairTable::put(TokenId left, TokenId right, std::uint32_t rank, TokenId result) {
    const auto pair = std::uint64_t{left} << kTokenBits | right;
    const auto hash = pair * kOdd;
    const auto bit = hash >> (shift_ - kFilterBits);
    filter_[bit / 64] |= std::uint64_t{1} << (bit % 64);
    const auto at = slot(pair, hash);
    entries_[at] = pair << kRankBits | rank;
    results_[rank] = result;
}

Vocabulary::Vocabulary(const Recipe& recipe)
    : byte_level_(recipe.words != Words::sentence_pieces), pairs_(recipe.merges.size()), trie_({}) {
    read_tokens(recipe);
    read_leaves();
    read_merges(recipe);
    find_origins();
    drop_idle_merges();
    find_shorter();
}

void Vocabulary::read_tokens(const Recipe& recipe) {
    std::size_t size = 0;
    for (const auto& [token, id] : recipe.vocabulary) size = std::max<std::size_t>(size, std::size_t{id} + 1);
    if (size == 0) throw std::invalid_argument("the vocabulary is empty");
    if (size >= std::size_t{1} << PairTable::kTokenBits)
        throw std::invalid_argument("the vocabulary has an id of 2^21 - 1 or more");
    texts_.resize(size);
    std::vector<bool> taken(size);
    for (const auto& [token, id] : recipe.vocabulary) {
        if (taken[id]) throw std::invalid_argument("two tokens have id " + std::to_string(id));
        taken[id] = true;
        texts_[id] = byte_level_ ? from_byte_level(token) : from_sentence_piece(token);
    }
}

void Vocabulary::read_leaves() {
    std::unordered_map<std::string_view, TokenId> ids;
    ids.reserve(texts_.size());
    for (TokenId id = 0; id < texts_.size(); ++id) {
        const std::string_view text = texts_[id];
        if (text.empty()) continue;
        if (!ids.emplace(text, id).second) throw std::invalid_argument("two tokens stand for the same bytes");
        const auto* const begin = reinterpret_cast<const unsigned char*>(text.data());
        const auto [code, length] = utf8::decode(begin, begin + text.size());
        const bool malformed = code == utf8::kReplacement && length == 1;
        if (byte_level_ || length != text.size() || malformed) continue;
        if (code >= leaves_.size()) leaves_.resize(code + 1, kNoToken);
        leaves_[code] = id;
    }
    char name[8];
    for (unsigned byte = 0; byte < 256; ++byte) {
        std::snprintf(name, sizeof name, "<0x%02X>", byte);
        const char single = static_cast<char>(byte);
        const auto found = ids.find(byte_level_ ? std::string_view(&single, 1) : std::string_view(name));
        if (found == ids.end()) throw std::invalid_argument("the vocabulary has no token for byte " + std::string(name));
        byte_tokens_[byte] = found->second;
    }
}

void Vocabulary::read_merges(const Recipe& recipe) {
    if (recipe.merges.size() >= PairTable::kNone) throw std::invalid_argument("there are 2^22 - 1 merges or more");
    std::unordered_map<std::string_view, TokenId> ids;
    ids.reserve(2 * recipe.vocabulary.size());
    for (const auto& [token, id] : recipe.vocabulary) ids.emplace(token, id);
    std::string joined;
    std::uint32_t rank = 0;
    for (const auto& [left, right] : recipe.merges) {
        joined.assign(left).append(right);
        const auto found_left = ids.find(left), found_right = ids.find(right), found = ids.find(joined);
        if (found_left == ids.end() || found_right == ids.end() || found == ids.end())
            throw std::invalid_argument("merge " + std::to_string(rank) + " has a part or a result that is no token");
        pairs_.put(found_left->second, found_right->second, rank++, found->second);
    }
    if (byte_level_) return;
    std::vector<bool> is_byte(texts_.size());
    for (const auto byte : byte_tokens_) is_byte[byte] = true;
    for (const auto& [left, right] : recipe.merges)
        if (is_byte[ids.at(left)] || is_byte[ids.at(right)]) throw std::invalid_argument("a byte token has a merge");
}

TokenId* Vocabulary::write_leaves(std::string_view text, TokenId* out) const {
    const auto* at = reinterpret_cast<const unsigned char*>(text.data());
    for (const auto* const end = at + text.size(); at != end;) {
        const auto character = byte_level_ ? utf8::Decoded{0, 1} : utf8::decode(at, end);
        const auto leaf = character.code < leaves_.size() ? leaves_[character.code] : kNoToken;
        if (leaf != kNoToken) {
            *out++ = leaf;
            at += character.length;
            continue;
        }
        for (const auto* const next = at + character.length; at != next; ++at) *out++ = byte_tokens_[*at];
    }
    return out;
}

std::vector<TokenId> Vocabulary::merge_plainly(std::string_view text, Origin* origin) const {
    std::vector<TokenId> symbols(text.size());
    symbols.resize(static_cast<std::size_t>(write_leaves(text, symbols.data()) - symbols.data()));
    bool ascending = true;
    std::uint32_t last_rank = 0;
    while (symbols.size() > 1) {
        auto best = PairTable::kNone;
        std::size_t place = 0;
        for (std::size_t at = 0; at + 1 < symbols.size(); ++at) {
            const auto rank = pairs_.rank(symbols[at], symbols[at + 1]);
            if (rank < best) best = rank, place = at;
        }
        if (best == PairTable::kNone) break;
        if (origin != nullptr) {
            origin->left = symbols[place];
            origin->right = symbols[place + 1];
            origin->rank = best + 1;
        }
        ascending = ascending && best >= last_rank;
        last_rank = best;
        symbols[place] = pairs_.result(best);
        symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
    }
    if (origin != nullptr) origin->ascending = ascending;
    return symbols;
}

void Vocabulary::find_origins() {
    origins_.resize(texts_.size());
    lengths_.resize(texts_.size());
    for (TokenId id = 0; id < texts_.size(); ++id) {
        if (texts_[id].empty()) continue;
        lengths_[id] = static_cast<std::uint32_t>(texts_[id].size());
        auto& origin = origins_[id];
        const auto symbols = merge_plainly(texts_[id], &origin);
        origin.reachable = symbols.size() == 1 && symbols.front() == id;
    }
}

// A merge happens between two tokens that touch, and until then nothing crossed the border between them: so it would happen in
// the text of the two alone as well, and is the last step of how that text becomes its token. Each reachable token therefore has
// one merge that makes it, and all others are idle: half of them in some vocabularies. A smaller table is a faster one.
void Vocabulary::drop_idle_merges() {
    std::vector<TokenId> made;
    for (TokenId id = 0; id < texts_.size(); ++id) {
        auto& origin = origins_[id];
        if (!origin.reachable) origin = {};
        if (origin.rank != 0) made.push_back(id);
    }
    std::sort(made.begin(), made.end(), [this](TokenId one, TokenId other) { return origins_[one].rank < origins_[other].rank; });
    pairs_ = PairTable(made.size());
    for (std::uint32_t rank = 0; rank < made.size(); ++rank) {
        auto& origin = origins_[made[rank]];
        pairs_.put(origin.left, origin.right, rank, made[rank]);
        origin.rank = rank + 1;
    }
}

void Vocabulary::find_shorter() {
    std::vector<std::pair<std::string_view, TokenId>> keys;
    for (TokenId id = 0; id < texts_.size(); ++id)
        if (origins_[id].reachable) keys.emplace_back(texts_[id], id);
    trie_ = Trie(keys);
    shorter_.resize(texts_.size());
    for (const auto& [text, id] : keys) {
        const auto* begin = reinterpret_cast<const unsigned char*>(text.data());
        shorter_[id] = trie_.longest(begin, begin + text.size() - 1);
        for (std::size_t at = 1; at < text.size(); ++at) neighbours_.set(std::size_t{begin[at - 1]} << 8 | begin[at]);
    }
}

}  // namespace rm_grpc
