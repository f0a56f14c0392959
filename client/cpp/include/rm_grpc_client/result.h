// What comes back for an item.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "rm_grpc_client/error.h"
#include "rm_grpc_client/options.h"
#include "rm_grpc_client/seconds.h"

namespace rm_grpc {

/// The score of one step of a response.
struct StepScore {
    float score = 0;
    /// Position of the token that it was read at.
    std::int32_t token_offset = 0;
    /// The characters of the response that it spans, the last one excluded.
    std::int32_t char_start = 0;
    std::int32_t char_end = 0;
};

/// How long an item spent in each stage of the server.
struct Timing {
    Seconds text_queue{};
    Seconds render{};
    Seconds encode{};
    Seconds queue{};
    Seconds forward{};
};

/// A score.
struct Score {
    /// The number to use: the raw score after the activation that was asked for.
    float score = 0;
    /// The model's number before any activation.
    float raw_score = 0;
    /// The activation that was applied. A newer server may have others than those named: their numbers are kept.
    Activation activation = Activation::none;
    /// Named numbers, for models that give several.
    std::map<std::string, float> attributes = {};
    /// Scores of steps, for models that give them.
    std::vector<StepScore> steps = {};
    /// How many tokens the model read.
    std::int32_t token_count = 0;
    /// Whether turns of the conversation were dropped to make it fit.
    bool truncated = false;
    /// How many of the tokens were shared with other conversations instead of being computed again.
    std::int32_t shared_prefix_tokens = 0;
    /// Digest of everything that makes this number: weights, tokenizer, template and scorer settings.
    std::string model_digest = {};
    Timing timing = {};
};

/// The one outcome of an item.
struct Result {
    /// The item's id.
    std::string id;
    /// The item's position on its stream.
    std::uint64_t index = 0;
    std::variant<Score, Error> outcome;

    /// The score, or null where there is an error.
    const Score* score() const noexcept { return std::get_if<Score>(&outcome); }
    /// The error, or null where there is a score.
    const Error* error() const noexcept { return std::get_if<Error>(&outcome); }
};

}  // namespace rm_grpc
