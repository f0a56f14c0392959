// What a server says about its models, and about what they read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rm_grpc_client/error.h"

namespace rm_grpc {

/// What a server takes from one caller.
struct Limits {
    /// Longest conversation, in tokens.
    std::int32_t max_length = 0;
    /// Largest message, in bytes.
    std::int64_t max_message_bytes = 0;
    /// Most items in flight on one stream, and most bytes of them.
    std::int32_t window_items = 0;
    std::int64_t window_bytes = 0;
};

/// A model that is served, with all that its numbers depend on.
struct ModelInfo {
    /// The name that requests use.
    std::string name;
    /// Where it was loaded from: a folder or a hub id, with the hub's revision.
    std::string source;
    std::string revision;
    /// How conversations become numbers: sequence_classification, token_logit ...
    std::string scorer_kind;
    /// Name of the Transformers class.
    std::string architecture;
    /// Names of the numbers that a score's attributes hold.
    std::vector<std::string> attribute_names;
    std::string dtype;
    std::string device;
    /// Digest of the four below and of the scorer's settings; each score carries it.
    std::string model_digest;
    std::string weights_digest;
    std::string tokenizer_digest;
    std::string template_digest;
    /// What makes the ids, with its version.
    std::string encoder;
    /// The scorer's and the text settings, and where they come from.
    std::string settings_json;
    std::string settings_source;
    /// What a user of this model should know: traps that were found in its files.
    std::vector<std::string> notes;
    Limits limits;
};

/// What a model would read for one item.
struct Tokenization {
    /// Empty for an item of token ids.
    std::string rendered_text;
    std::vector<std::int32_t> ids;
    /// How many of the leading ids are the beginning-of-sequence token.
    std::int32_t bos_count = 0;
    /// Control tokens and markers of other model families that stand in content, each once.
    std::vector<std::string> control_tokens_in_content;
    std::vector<std::string> foreign_markers_in_content;
    /// Whether turns were dropped to make it fit.
    bool truncated = false;
    /// Positions whose hidden states or logits the scorer reads.
    std::vector<std::int32_t> read_positions;
};

/// The answer for one item. Both are there for an item that can be read but would be refused.
struct TokenizeResult {
    std::string id;
    /// None where the item cannot be rendered at all.
    std::optional<Tokenization> tokenization;
    /// The error that scoring would give, if any.
    std::optional<Error> error;
};

}  // namespace rm_grpc
