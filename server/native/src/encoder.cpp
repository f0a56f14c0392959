#include "encoder.h"

#include <algorithm>
#include <stdexcept>

#include "context.h"
#include "normalize.h"

namespace rm_grpc {

namespace {

AddedTokens added_tokens(const Recipe& recipe, bool normalized) {
    std::vector<AddedToken> tokens;
    for (const auto& token : recipe.added) {
        if (token.id > INT32_MAX) throw std::invalid_argument("added token " + token.text + " has an id of 2^31 or more");
        if (token.normalized != normalized) continue;
        tokens.push_back(token);
        if (normalized && recipe.nfc) to_nfc(token.text, tokens.back().text);
    }
    return AddedTokens(std::move(tokens));
}

}  // namespace

// A context of its own for the length of a call; given back, it keeps what it learnt for the next.
class Encoder::Lease {
  public:
    explicit Lease(const Encoder& encoder) : encoder_(encoder) {
        const std::lock_guard lock(encoder_.mutex_);
        if (encoder_.idle_.empty()) return;
        context_ = std::move(encoder_.idle_.back());
        encoder_.idle_.pop_back();
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() {
        const std::lock_guard lock(encoder_.mutex_);
        if (context_ != nullptr) encoder_.idle_.push_back(std::move(context_));
    }

    Context& context() {
        if (context_ == nullptr) context_ = std::make_unique<Context>(encoder_);
        return *context_;
    }

  private:
    const Encoder& encoder_;
    std::unique_ptr<Context> context_;
};

Encoder::Encoder(const Recipe& recipe)
    : words_(recipe.words),
      nfc_(recipe.nfc),
      prepend_space_(recipe.prepend_space),
      vocabulary_(recipe),
      before_(added_tokens(recipe, false)),
      behind_(added_tokens(recipe, true)) {
    if (recipe.prepend_space && recipe.words != Words::sentence_pieces)
        throw std::invalid_argument("only sentence pieces begin with a space of their own");
    for (TokenId token = 0; recipe.ignore_merges && token < vocabulary_.size(); ++token)
        if (vocabulary_.length(token) != 0 && !vocabulary_.origin(token).reachable)
            stubborn_.emplace(vocabulary_.text(token), token);
}

Encoder::~Encoder() = default;

void Encoder::encode(std::span<const std::string_view> texts, const EncodeOptions& options, Ids& ids,
                     std::vector<std::int64_t>& ends) const {
    Lease lease(*this);
    for (const auto text : texts) {
        lease.context().encode(text, options, ids);
        ends.push_back(static_cast<std::int64_t>(ids.size()));
    }
}

}  // namespace rm_grpc
