#include "context.h"

#include <bit>

#include "normalize.h"
#include "window.h"

namespace rm_grpc {

namespace {

constexpr std::size_t kSpare = 4;  // what words may write behind their last id

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

std::string_view text_of(const unsigned char* begin, const unsigned char* end) {
    return {reinterpret_cast<const char*>(begin), static_cast<std::size_t>(end - begin)};
}

void append(TokenId id, Ids& ids) {
    auto* const out = ids.open(1);
    *out = static_cast<std::int32_t>(id);
    ids.close(out + 1);
}

}  // namespace

Context::Context(const Encoder& encoder) : encoder_(encoder), cache_(encoder.vocabulary_, encoder.stubborn_) {}

void Context::encode(std::string_view text, const EncodeOptions& options, Ids& ids) {
    const auto* const at = bytes_of(text);
    const auto* const end = document_end_ = at + text.size();
    if (options.plain || encoder_.before_.empty()) return encode_segment(at, end, options, ids);
    encoder_.before_.split(
        at, end, [&](const Byte* begin, const Byte* piece_end) { encode_segment(begin, piece_end, options, ids); },
        [&](TokenId id) { append(id, ids); });
}

void Context::encode_segment(const Byte* begin, const Byte* end, const EncodeOptions& options, Ids& ids) {
    // Plain text has other ids, and instructions are chosen to see what they do.
    const auto text = text_of(begin, end);
    if (options.plain || options.instructions != nullptr || !SegmentCache::keeps(text))
        return encode_new_segment(begin, end, options, ids);
    if (segments_.append(text, ids)) return;
    const auto from = ids.size();
    encode_new_segment(begin, end, options, ids);
    segments_.keep(text, ids, from);
}

void Context::encode_new_segment(const Byte* begin, const Byte* end, const EncodeOptions& options, Ids& ids) {
    if (begin == end) return;
    readable_ = document_end_;
    if (encoder_.nfc_) {
        const auto text = text_of(begin, end);
        if (!is_nfc(text)) {
            to_nfc(text, normalized_);
            begin = bytes_of(normalized_);
            readable_ = end = begin + normalized_.size();
        }
    }
    if (options.plain || encoder_.behind_.empty()) return encode_normalized(begin, end, options, ids);
    encoder_.behind_.split(
        begin, end, [&](const Byte* piece, const Byte* piece_end) { encode_normalized(piece, piece_end, options, ids); },
        [&](TokenId id) { append(id, ids); });
}

void Context::encode_normalized(const Byte* begin, const Byte* end, const EncodeOptions& options, Ids& ids) {
    if (begin == end) return;
    if (encoder_.words_ == Words::sentence_pieces) return encode_sentence_pieces(begin, end, ids);
    const auto& chosen = options.instructions != nullptr ? *options.instructions : instructions().front();
    encode_words(begin, end, chosen.classify, ids);
}

void Context::encode_words(const Byte* begin, const Byte* end, Classify classify, Ids& ids) {
    auto* out = ids.open(static_cast<std::size_t>(end - begin) + kSpare);
    switch (encoder_.words_) {
        case Words::gpt2: out = append_words<Words::gpt2>(begin, end, classify, out); break;
        case Words::gpt2_digits: out = append_words<Words::gpt2_digits>(begin, end, classify, out); break;
        case Words::cl100k: out = append_words<Words::cl100k>(begin, end, classify, out); break;
        case Words::qwen2: out = append_words<Words::qwen2>(begin, end, classify, out); break;
        case Words::qwen3_5: out = append_words<Words::qwen3_5>(begin, end, classify, out); break;
        case Words::o200k: out = append_words<Words::o200k>(begin, end, classify, out); break;
        case Words::tekken: out = append_words<Words::tekken>(begin, end, classify, out); break;
        case Words::deepseek: out = append_words<Words::deepseek>(begin, end, classify, out); break;
        case Words::sentence_pieces: break;
    }
    ids.close(out);
}

template <Words W>
std::int32_t* Context::append_words(const Byte* at, const Byte* end, Classify classify, std::int32_t* out) {
    constexpr auto kRules = words::rules_of(W);
    const words::Scanner<kRules> scanner(end);
    Word batch[WordCache::kBatch];
    while (at != end) {
        std::size_t count = 0;
        while (at != end && count + 64 <= WordCache::kBatch) {
            auto starts = end - at >= 64 ? words::Window<kRules>(at, classify).starts() : 0;
            if (starts == 0) {
                const auto* const next = scanner.next(at);
                batch[count++] = {at, static_cast<std::uint32_t>(next - at)};
                at = next;
                continue;
            }
            unsigned from = 0;
            for (; starts != 0; starts &= starts - 1) {
                const auto to = static_cast<unsigned>(std::countr_zero(starts));
                batch[count++] = {at + from, to - from};
                from = to;
            }
            at += from;
        }
        out = cache_.append({batch, count}, readable_, out);
    }
    return out;
}

// Spaces stand for U+2581 here, as they do in the texts of the vocabulary. Where no token holds two neighbouring bytes, none
// reaches across them, and the text may be cut.
void Context::encode_sentence_pieces(const Byte* begin, const Byte* end, Ids& ids) {
    constexpr std::string_view kSpace = "\xE2\x96\x81";
    const auto text = text_of(begin, end);
    const bool marked = text.find(kSpace) != std::string_view::npos;
    if (marked || encoder_.prepend_space_) {
        spaced_.clear();
        if (encoder_.prepend_space_) spaced_.push_back(' ');
        for (std::size_t at = 0; at < text.size();) {
            const auto next = std::min(text.find(kSpace, at), text.size());
            spaced_.append(text.substr(at, next - at));
            if (next == text.size()) break;
            spaced_.push_back(' ');
            at = next + kSpace.size();
        }
        begin = bytes_of(spaced_);
        readable_ = end = begin + spaced_.size();
    }
    auto* out = ids.open(static_cast<std::size_t>(end - begin) + kSpare);
    const auto& neighbours = encoder_.vocabulary_.neighbours();
    Word batch[WordCache::kBatch];
    for (const auto* at = begin; at != end;) {
        std::size_t count = 0;
        while (at != end && count < WordCache::kBatch) {
            const auto* next = at + 1;
            while (next != end && (utf8::is_continuation(*next) || neighbours.test(std::size_t{next[-1]} << 8 | *next))) ++next;
            batch[count++] = {at, static_cast<std::uint32_t>(next - at)};
            at = next;
        }
        out = cache_.append({batch, count}, readable_, out);
    }
    ids.close(out);
}

}  // namespace rm_grpc
