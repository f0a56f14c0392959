// Text to token ids, exactly as Hugging Face `tokenizers` gives them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "added_tokens.h"
#include "ids.h"
#include "instructions.h"
#include "recipe.h"
#include "vocabulary.h"

namespace rm_grpc {

class Context;

struct EncodeOptions {
    bool plain = false;                          // added tokens are characters like any others
    const Instructions* instructions = nullptr;  // none: the fastest that the processor has
};

// Safe from several threads.
class Encoder {
  public:
    // Throws std::invalid_argument for a recipe that contradicts itself.
    explicit Encoder(const Recipe& recipe);
    ~Encoder();

    // Appends the ids of a text, which is valid UTF-8, to each of the outputs; ends holds where each text's ids end.
    void encode(std::span<const std::string_view> texts, const EncodeOptions& options, Ids& ids,
                std::vector<std::int64_t>& ends) const;

    const Vocabulary& vocabulary() const { return vocabulary_; }

  private:
    friend class Context;

    class Lease;

    Words words_;
    bool nfc_;
    bool prepend_space_;
    Vocabulary vocabulary_;
    AddedTokens before_, behind_;  // found before and behind normalisation
    std::unordered_map<std::string_view, TokenId> stubborn_;  // words that are tokens though no merges lead to them
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<Context>> idle_;
};

}  // namespace rm_grpc
