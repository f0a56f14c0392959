#include "plain.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "check.h"
#include "instructions.h"
#include "normalize.h"
#include "recipes.h"
#include "utf8.h"
#include "window.h"
#include "words.h"

namespace rm_grpc::tests {

namespace {

using words::Byte;
using Tokens = std::vector<AddedToken>;

template <class Visit>
void with_rules(Words words, Visit visit) {
    using words::rules_of;
    switch (words) {
        case Words::gpt2: return visit.template operator()<rules_of(Words::gpt2)>();
        case Words::gpt2_digits: return visit.template operator()<rules_of(Words::gpt2_digits)>();
        case Words::cl100k: return visit.template operator()<rules_of(Words::cl100k)>();
        case Words::qwen2: return visit.template operator()<rules_of(Words::qwen2)>();
        case Words::qwen3_5: return visit.template operator()<rules_of(Words::qwen3_5)>();
        case Words::o200k: return visit.template operator()<rules_of(Words::o200k)>();
        case Words::tekken: return visit.template operator()<rules_of(Words::tekken)>();
        case Words::deepseek: return visit.template operator()<rules_of(Words::deepseek)>();
        case Words::sentence_pieces: return;
    }
}

template <words::Rules R>
void check_windows_of(const Exact& text, const Instructions& instructions, std::string_view kind) {
    const words::Scanner<R> scanner(text.end());
    for (const auto* at = text.begin(); at != text.end();) {
        auto starts = text.end() - at >= 64 ? words::Window<R>(at, instructions.classify).starts() : 0;
        if (starts == 0) {
            const auto* const next = scanner.next(at);
            CHECK(next > at && next <= text.end(), kind, quoted(text.view()));
            at = next;
            continue;
        }
        const auto* const window = at;
        CHECK((starts & 1) == 0, kind, instructions.name);
        for (; starts != 0; starts &= starts - 1) {
            const auto* const start = window + std::countr_zero(starts);
            const auto* const next = scanner.next(at);
            CHECK(next == start, kind, instructions.name, "a word ends behind", next - window, "bytes, the window says",
                  start - window, "in", quoted({reinterpret_cast<const char*>(window), 64}), "of", quoted(text.view()));
            at = next;
        }
    }
}

Tokens added_tokens(const Recipe& recipe, bool normalized) {
    Tokens tokens;
    for (const auto& token : recipe.added) {
        if (token.normalized != normalized) continue;
        tokens.push_back(token);
        if (normalized && recipe.nfc) to_nfc(token.text, tokens.back().text);
    }
    return tokens;
}

bool is_white(std::string_view character) {
    const auto* const begin = reinterpret_cast<const Byte*>(character.data());
    return words::is_blank(words::read(begin, begin + character.size()).type);
}

// The white space that a text begins or ends with.
std::size_t white_bytes(std::string_view text, bool at_end) {
    auto units = characters(text);
    if (at_end) std::reverse(units.begin(), units.end());
    std::size_t bytes = 0;
    for (const auto& unit : units) {
        if (!is_white(unit)) break;
        bytes += unit.size();
    }
    return bytes;
}

std::string with_spaces(std::string_view text, bool prepend) {
    constexpr std::string_view kSpace = "\u2581";
    std::string spaced(prepend ? " " : "");
    for (std::size_t at = 0; at < text.size();) {
        const bool space = text.substr(at, kSpace.size()) == kSpace;
        spaced += space ? ' ' : text[at];
        at += space ? kSpace.size() : 1;
    }
    return spaced;
}

}  // namespace

Exact::Exact(std::string_view text) : size_(text.size()), bytes_(std::make_unique<unsigned char[]>(size_)) {
    if (size_ != 0) std::memcpy(bytes_.get(), text.data(), size_);
}

void check_shrunk(std::string_view text, const std::function<void(std::string_view)>& check) {
    try {
        return check(text);
    } catch (const Failure&) {
    }
    auto units = characters(text);
    const auto joined = [&units] { return std::accumulate(units.begin(), units.end(), std::string()); };
    for (auto chunk = units.size(); chunk > 0; chunk /= 2) {
        for (std::size_t at = 0; at + chunk <= units.size();) {
            const auto kept = units;
            units.erase(units.begin() + static_cast<std::ptrdiff_t>(at),
                        units.begin() + static_cast<std::ptrdiff_t>(at + chunk));
            try {
                check(joined());
                units = kept;
                at += chunk;
            } catch (const Failure&) {
            }
        }
    }
    check(joined());
    CHECK(false, "fails only at times", quoted(text));
}

NaiveMatch find_naively(const Tokens& tokens, std::string_view text, std::size_t at) {
    NaiveMatch best;
    for (; at < text.size() && best.token == nullptr; ++at) {
        for (const auto& token : tokens) {
            const auto length = token.text.size();
            if (length > best.length && text.substr(at, length) == token.text) best = {at, length, &token};
        }
    }
    return best;
}

void split_naively(const Tokens& tokens, std::string_view text, const std::function<void(std::string_view)>& between,
                   const std::function<void(TokenId)>& token) {
    std::size_t consumed = 0;
    for (auto match = find_naively(tokens, text, 0); match.token != nullptr;) {
        const auto end = match.begin + match.length;
        auto begin = match.begin;
        if (match.token->strips_left) begin = std::max(begin - white_bytes(text.substr(0, begin), true), consumed);
        if (consumed < begin) between(text.substr(consumed, begin - consumed));
        token(match.token->id);
        consumed = end;
        if (match.token->strips_right) consumed += white_bytes(text.substr(end), false);
        match = find_naively(tokens, text, end);
    }
    if (consumed < text.size()) between(text.substr(consumed));
}

PlainMerges::PlainMerges(const Recipe& recipe, const Vocabulary& vocabulary) : vocabulary_(vocabulary) {
    const std::unordered_map<std::string_view, TokenId> ids(recipe.vocabulary.begin(), recipe.vocabulary.end());
    for (std::size_t rank = 0; rank < recipe.merges.size(); ++rank) {
        const auto& [left, right] = recipe.merges[rank];
        merges_[{ids.at(left), ids.at(right)}] = {rank, ids.at(left + right)};
    }
}

IdList PlainMerges::merge(std::string_view word) const {
    std::vector<TokenId> symbols(word.size());
    symbols.resize(static_cast<std::size_t>(vocabulary_.write_leaves(word, symbols.data()) - symbols.data()));
    while (true) {
        const Merge* best = nullptr;
        std::size_t place = 0;
        for (std::size_t at = 0; at + 1 < symbols.size(); ++at) {
            const auto found = merges_.find({symbols[at], symbols[at + 1]});
            if (found == merges_.end() || (best != nullptr && found->second.rank >= best->rank)) continue;
            best = &found->second;
            place = at;
        }
        if (best == nullptr) return {symbols.begin(), symbols.end()};
        symbols[place] = best->result;
        symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
    }
}

std::vector<std::size_t> word_ends(Words words, std::string_view text) {
    const Exact exact(text);
    std::vector<std::size_t> ends;
    with_rules(words, [&]<words::Rules R>() {
        const words::Scanner<R> scanner(exact.end());
        for (const auto* at = exact.begin(); at != exact.end();) {
            const auto* const next = scanner.next(at);
            CHECK(next > at && next <= exact.end(), name_of(words), quoted(text));
            at = next;
            ends.push_back(static_cast<std::size_t>(at - exact.begin()));
        }
    });
    if (words == Words::sentence_pieces && !text.empty()) ends.push_back(text.size());
    return ends;
}

void check_windows(Words words, std::string_view text) {
    check_shrunk(text, [words](std::string_view part) {
        const Exact exact(part);
        with_rules(words, [&]<words::Rules R>() {
            for (const auto& one : instructions()) check_windows_of<R>(exact, one, name_of(words));
        });
    });
}

PlainEncoder::PlainEncoder(const Recipe& recipe, const Vocabulary& vocabulary)
    : recipe_(recipe), vocabulary_(vocabulary), merges_(recipe, vocabulary), before_(added_tokens(recipe, false)), behind_(added_tokens(recipe, true)) {
    if (!recipe.ignore_merges) return;
    for (TokenId token = 0; token < vocabulary.size(); ++token)
        if (vocabulary.length(token) != 0) whole_words_.emplace(vocabulary.text(token), token);
}

IdList PlainEncoder::encode(std::string_view text, bool plain) const {
    IdList ids;
    const auto add = [&](TokenId id) { ids.push_back(static_cast<std::int32_t>(id)); };
    const auto add_segment = [&](std::string_view segment) {
        std::string normalized(segment);
        if (recipe_.nfc && !is_nfc(segment)) to_nfc(segment, normalized);
        split_naively(plain ? Tokens{} : behind_, normalized, [&](std::string_view part) { add_words(part, ids); }, add);
    };
    split_naively(plain ? Tokens{} : before_, text, add_segment, add);
    return ids;
}

void PlainEncoder::add_words(std::string_view normalized, IdList& ids) const {
    const bool pieces = recipe_.words == Words::sentence_pieces;
    const auto segment = pieces ? with_spaces(normalized, recipe_.prepend_space) : std::string(normalized);
    std::size_t begin = 0;
    for (const auto end : word_ends(recipe_.words, segment)) {
        const auto word = std::string_view(segment).substr(begin, end - begin);
        begin = end;
        if (const auto whole = whole_words_.find(word); whole != whole_words_.end()) {
            ids.push_back(static_cast<std::int32_t>(whole->second));
            continue;
        }
        const auto merged = merges_.merge(word);
        ids.insert(ids.end(), merged.begin(), merged.end());
    }
}

IdList encode(const Encoder& encoder, std::string_view text, const EncodeOptions& options) {
    const Exact exact(text);
    const std::string_view texts[] = {exact.view()};
    Ids ids;
    std::vector<std::int64_t> ends;
    encoder.encode(texts, options, ids, ends);
    CHECK(ends.size() == 1 && ends[0] == static_cast<std::int64_t>(ids.size()));
    return {ids.data(), ids.data() + ids.size()};
}

std::string text_of(const Vocabulary& vocabulary, const IdList& ids) {
    std::string text;
    for (const auto id : ids) text += vocabulary.text(static_cast<TokenId>(id));
    return text;
}

}  // namespace rm_grpc::tests
