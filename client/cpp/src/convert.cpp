#include "convert.h"

#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <utility>

#include "status.h"
#include "utf8.h"

namespace rm_grpc {

namespace {

constexpr double kNanos = 1e9;

[[noreturn]] void refuse(std::string field, std::string message) {
    throw CallError(own_error(Code::invalid_argument, reason::invalid_request, std::move(message), std::move(field)));
}

// The text, if protobuf can carry it. `field` makes the name of the place, which is needed for an error only.
template <class Field>
std::string checked(std::string&& text, const Field& field) {
    if (!is_utf8(text)) refuse(field(), "the text is not UTF-8: decode it first");
    return std::move(text);
}

std::string at(const char* name, std::size_t index) { return std::string(name) + "[" + std::to_string(index) + "]"; }

void fill(v1::Message& message, Message&& given, std::size_t index) {
    const auto field = [index](const char* name) {
        return [index, name] { return at("conversation.messages", index) + "." + name; };
    };
    message.set_role(checked(std::move(given.role), field("role")));
    for (const auto& piece : given.content.pieces())
        message.add_content()->set_text(checked(std::string(piece), field("content")));
    message.set_name(checked(std::move(given.name), field("name")));
    for (auto& call : given.tool_calls) {
        auto& made = *message.add_tool_calls();
        made.set_id(checked(std::move(call.id), field("tool_calls.id")));
        made.set_name(checked(std::move(call.name), field("tool_calls.name")));
        made.set_arguments_json(checked(std::move(call.arguments_json), field("tool_calls.arguments_json")));
    }
    message.set_tool_call_id(checked(std::move(given.tool_call_id), field("tool_call_id")));
    message.set_reasoning_content(checked(std::move(given.reasoning_content), field("reasoning_content")));
}

void fill(v1::Item& item, Conversation&& conversation) {
    auto& made = *item.mutable_conversation();
    std::size_t index = 0;
    for (auto& message : conversation.messages) fill(*made.add_messages(), std::move(message), index++);
    made.set_tools_json(checked(std::move(conversation.tools_json), [] { return "conversation.tools_json"; }));
}

void fill(v1::Item& item, RenderedText&& rendered) {
    item.set_text(checked(std::move(rendered.text), [] { return "text"; }));
}

void fill(v1::Item& item, TokenIds&& tokens) {
    auto& made = *item.mutable_tokens();
    auto& bytes = *made.mutable_ids();
    bytes.reserve(tokens.ids.size() * sizeof(std::int32_t));
    for (const auto id : tokens.ids)
        for (int shift = 0; shift < 32; shift += 8)
            bytes.push_back(static_cast<char>(static_cast<std::uint32_t>(id) >> shift));
    made.set_tokenizer_digest(checked(std::move(tokens.tokenizer_digest), [] { return "tokens.tokenizer_digest"; }));
}

void fill(v1::Item&, Error&& error) { throw CallError(std::move(error)); }

void fill_metadata(v1::Item& item, const std::string& json) {
    const auto first = json.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return;
    if (!is_utf8(json) || json[first] != '{' ||
        !google::protobuf::util::JsonStringToMessage(json, item.mutable_metadata()).ok())
        refuse("metadata", "must be a JSON object");
}

template <class Repeated>
auto vector_of(const Repeated& values) {
    return std::vector<typename Repeated::value_type>(values.begin(), values.end());
}

Score score_of(const v1::Score& score) {
    Score made{
        .score = score.score(),
        .raw_score = score.raw_score(),
        .activation = score.activation() == v1::ACTIVATION_UNSPECIFIED ? Activation::none
                                                                       : static_cast<Activation>(score.activation()),
        .token_count = score.token_count(),
        .truncated = score.truncated(),
        .shared_prefix_tokens = score.shared_prefix_tokens(),
        .model_digest = score.model_digest(),
        .timing =
            {
                .text_queue = seconds_of(score.timing().text_queue()),
                .render = seconds_of(score.timing().render()),
                .encode = seconds_of(score.timing().encode()),
                .queue = seconds_of(score.timing().queue()),
                .forward = seconds_of(score.timing().forward()),
            },
    };
    for (const auto& attribute : score.attributes()) made.attributes[attribute.name()] = attribute.value();
    for (const auto& step : score.steps())
        made.steps.push_back({step.score(), step.token_offset(), step.char_start(), step.char_end()});
    return made;
}

}  // namespace

v1::Item message_of(Item&& item, std::string wire_id) {
    v1::Item made;
    made.set_id(std::move(wire_id));
    std::visit([&made](auto&& input) { fill(made, std::move(input)); }, std::move(item.input));
    made.set_group(checked(std::move(item.group), [] { return "group"; }));
    fill_metadata(made, item.metadata_json);
    if (item.timeout) {
        if (!(*item.timeout >= Seconds::zero() && *item.timeout < kLongestDuration))
            refuse("timeout", "must be a time that is not negative, of less than 10,000 years");
        set_duration(*made.mutable_timeout(), *item.timeout);
    }
    return made;
}

v1::ScoreOptions message_of(const ScoreOptions& options) {
    v1::ScoreOptions made;
    made.set_control_tokens(static_cast<v1::ControlTokens>(options.control_tokens));
    made.set_foreign_markers(static_cast<v1::ForeignMarkers>(options.foreign_markers));
    made.set_activation(static_cast<v1::Activation>(options.activation));
    made.set_special_tokens(static_cast<v1::SpecialTokens>(options.special_tokens));
    return made;
}

std::variant<Score, Error> outcome_of(const v1::ItemResult& result) {
    switch (result.outcome_case()) {
        case v1::ItemResult::kScore: return score_of(result.score());
        case v1::ItemResult::kError: return error_of(result.error());
        default: return own_error(Code::internal, reason::internal, "the server answered with neither a score nor an error");
    }
}

ModelInfo model_of(const v1::ModelInfo& model) {
    const auto& limits = model.limits();
    return {
        .name = model.name(),
        .source = model.source(),
        .revision = model.revision(),
        .scorer_kind = model.scorer_kind(),
        .architecture = model.architecture(),
        .attribute_names = vector_of(model.attribute_names()),
        .dtype = model.dtype(),
        .device = model.device(),
        .model_digest = model.model_digest(),
        .weights_digest = model.weights_digest(),
        .tokenizer_digest = model.tokenizer_digest(),
        .template_digest = model.template_digest(),
        .encoder = model.encoder(),
        .settings_json = model.settings_json(),
        .settings_source = model.settings_source(),
        .notes = vector_of(model.notes()),
        .limits = {limits.max_length(), limits.max_message_bytes(), limits.window_items(), limits.window_bytes()},
    };
}

TokenizeResult tokenize_result_of(const v1::TokenizeResult& result, std::string id) {
    TokenizeResult made{.id = std::move(id), .tokenization = {}, .error = {}};
    if (result.has_tokenization()) {
        const auto& found = result.tokenization();
        made.tokenization = {
            .rendered_text = found.rendered_text(),
            .ids = vector_of(found.ids()),
            .bos_count = found.bos_count(),
            .control_tokens_in_content = vector_of(found.control_tokens_in_content()),
            .foreign_markers_in_content = vector_of(found.foreign_markers_in_content()),
            .truncated = found.truncated(),
            .read_positions = vector_of(found.read_positions()),
        };
    }
    if (result.has_error()) made.error = error_of(result.error());
    return made;
}

void set_duration(google::protobuf::Duration& duration, Seconds value) {
    double whole = 0;
    auto nanos = std::round(std::modf(value.count(), &whole) * kNanos);
    if (nanos >= kNanos) nanos -= kNanos, whole += 1;
    duration.set_seconds(static_cast<std::int64_t>(whole));
    duration.set_nanos(static_cast<std::int32_t>(nanos));
}

Seconds seconds_of(const google::protobuf::Duration& duration) {
    return Seconds(static_cast<double>(duration.seconds()) + duration.nanos() / kNanos);
}

}  // namespace rm_grpc
