// One thread's way through a text: added tokens, normalisation, words, ids.
#pragma once

#include <string>

#include "encoder.h"
#include "segment_cache.h"
#include "word_cache.h"

namespace rm_grpc {

class Context {
  public:
    explicit Context(const Encoder& encoder);

    void encode(std::string_view text, const EncodeOptions& options, Ids& ids);

  private:
    using Byte = unsigned char;

    void encode_segment(const Byte* begin, const Byte* end, const EncodeOptions& options, Ids& ids);
    void encode_new_segment(const Byte* begin, const Byte* end, const EncodeOptions& options, Ids& ids);
    void encode_normalized(const Byte* begin, const Byte* end, const EncodeOptions& options, Ids& ids);
    void encode_words(const Byte* begin, const Byte* end, Classify classify, Ids& ids);
    void encode_sentence_pieces(const Byte* begin, const Byte* end, Ids& ids);

    template <Words W>
    std::int32_t* append_words(const Byte* at, const Byte* end, Classify classify, std::int32_t* out);

    const Encoder& encoder_;
    WordCache cache_;
    SegmentCache segments_;
    const Byte* document_end_ = nullptr;
    const Byte* readable_ = nullptr;  // the end of the memory that the piece in hand lies in
    std::string normalized_;
    std::string spaced_;
};

}  // namespace rm_grpc
