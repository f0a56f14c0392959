// What is scored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "rm_grpc_client/error.h"
#include "rm_grpc_client/seconds.h"

namespace rm_grpc {

/// The text of a message, in one piece or in several, which are joined with nothing between them. Models that score steps
/// take each piece of a response for a step.
class Content {
  public:
    Content() = default;
    Content(std::string text) { pieces_.push_back(std::move(text)); }
    Content(const char* text) : Content(std::string(text)) {}
    Content(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}

    const std::vector<std::string>& pieces() const noexcept { return pieces_; }

  private:
    std::vector<std::string> pieces_;
};

/// A call of a tool by the assistant, in the OpenAI shape.
struct ToolCall {
    std::string id;
    std::string name;
    /// Arguments as JSON text.
    std::string arguments_json;
};

/// One message of a conversation, in the OpenAI shape.
struct Message {
    /// Who speaks: system, developer, user, assistant or tool.
    std::string role;
    Content content = {};
    std::string name = {};
    std::vector<ToolCall> tool_calls = {};
    std::string tool_call_id = {};
    std::string reasoning_content = {};
};

/// A conversation, ending with the response to score; the server renders it with the model's own chat template.
struct Conversation {
    std::vector<Message> messages;
    /// Tools that the assistant could call, as a JSON array of JSON schemas, or empty.
    std::string tools_json = {};
};

/// Text as the model should read it.
struct RenderedText {
    std::string text;
};

/// Token ids as the model should read them.
struct TokenIds {
    std::vector<std::int32_t> ids;
    /// Digest of the tokenizer that made them, as `ModelInfo` has it; ids of another are refused.
    std::string tokenizer_digest;
};

/// What is scored. An error stands for what could not even be read, from a file for example: it is sent to nobody, and is
/// the item's result in its turn.
using Input = std::variant<Conversation, RenderedText, TokenIds, Error>;

/// One thing to score, with what may be said about it.
struct Item {
    Input input;
    /// Comes back on the result; the position on the stream where it is empty. It need not be unique.
    std::string id = {};
    /// How long the score is worth waiting for; the client's setting where there is none.
    std::optional<Seconds> timeout = {};
    /// Items of one group are likely to share a prompt. A hint: it never changes a score.
    std::string group = {};
    /// Whatever a scorer may need beside the conversation, as a JSON object, or empty. Not rendered.
    std::string metadata_json = {};
};

}  // namespace rm_grpc
