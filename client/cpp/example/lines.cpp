#include "lines.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace rm_grpc;

using In = nlohmann::ordered_json;
// Scores are float32, and are written as such: with the fewest digits that give the same number back.
using Out = nlohmann::basic_json<nlohmann::ordered_map, std::vector, std::string, bool, std::int64_t, std::uint64_t, float>;

constexpr int kDeepest = 100;  // protobuf reads no deeper

[[noreturn]] void refuse(std::string field, std::string message, std::string_view reason = reason::invalid_request) {
    throw CallError({.code = Code::invalid_argument,
                     .reason = std::string(reason),
                     .message = std::move(message),
                     .field = std::move(field)});
}

// The four hexadecimal digits of an escape, of which the backslash is at `at`; 0 where there is no such escape.
unsigned unit_at(const std::string& text, std::size_t at) {
    unsigned unit = 0;
    if (text.compare(at, 2, "\\u") != 0 || text.size() < at + 6) return 0;
    std::from_chars(text.data() + at + 2, text.data() + at + 6, unit, 16);
    return unit;
}

// Replaces escapes that are half of a surrogate pair, so that the line can be read for its id; whether there were any.
bool replace_half_pairs(std::string& text) {
    const auto is_high = [](unsigned unit) { return unit >= 0xD800 && unit <= 0xDBFF; };
    const auto is_low = [](unsigned unit) { return unit >= 0xDC00 && unit <= 0xDFFF; };
    bool found = false;
    for (auto at = text.find('\\'); at != std::string::npos; at = text.find('\\', at)) {
        const auto unit = unit_at(text, at);
        if (is_high(unit) && is_low(unit_at(text, at + 6))) {
            at += 12;
        } else if (is_high(unit) || is_low(unit)) {
            text.replace(at, 6, "\\ufffd");
            found = true;
            at += 6;
        } else {
            at += 2;
        }
    }
    return found;
}

In parse(const std::string& text) {
    const auto limit = [](int depth, In::parse_event_t, In&) {
        if (depth > kDeepest) refuse("", "the line is nested too deep");
        return true;
    };
    try {
        return In::parse(text, limit);
    } catch (const In::exception& error) {
        refuse("", std::string("the line is no JSON: ") + error.what());
    }
}

// A member of an object; null where it is not there, as where it is null.
const In& member(const In& object, const char* key) {
    static const In null;
    const auto found = object.find(key);
    return found == object.end() ? null : *found;
}

std::string text_of(const In& value, const std::string& field) {
    if (value.is_null()) return {};
    if (!value.is_string()) refuse(field, std::string("must be text, not ") + value.type_name());
    return value.get<std::string>();
}

std::string text_of(const In& object, const char* key, const std::string& where) {
    return text_of(member(object, key), where.empty() ? key : where + "." + key);
}

void check_keys(const In& object, const std::string& where, std::initializer_list<std::string_view> known) {
    for (const auto& [key, value] : object.items())
        if (std::find(known.begin(), known.end(), key) == known.end())
            refuse(where.empty() ? key : where + "." + key, "there is no such key here");
}

Content content_of(const In& value, const std::string& field) {
    if (value.is_null()) return {};
    if (!value.is_array()) return text_of(value, field);
    std::vector<std::string> pieces;
    for (const auto& part : value) {
        const auto where = field + "[" + std::to_string(pieces.size()) + "]";
        if (!part.is_object() || !member(part, "text").is_string() || (part.contains("type") && part["type"] != "text"))
            refuse(where, "only text can be scored", reason::unsupported_content);
        pieces.push_back(part["text"].get<std::string>());
    }
    return pieces;
}

ToolCall tool_call_of(const In& value, const std::string& where) {
    if (!value.is_object() || !member(value, "function").is_object())
        refuse(where, R"(must be {"id", "type": "function", "function": {"name", "arguments"}})");
    const auto& function = member(value, "function");
    return {
        .id = text_of(value, "id", where),
        .name = text_of(function, "name", where + ".function"),
        .arguments_json = text_of(function, "arguments", where + ".function"),
    };
}

Message message_of(const In& value, const std::string& where) {
    if (!value.is_object()) refuse(where, "must be an object");
    if (!member(value, "role").is_string()) refuse(where + ".role", "a message needs a role, as text");
    Message message{
        .role = text_of(value, "role", where),
        .content = content_of(member(value, "content"), where + ".content"),
        .name = text_of(value, "name", where),
        .tool_call_id = text_of(value, "tool_call_id", where),
        .reasoning_content = text_of(value, "reasoning_content", where),
    };
    const auto& calls = member(value, "tool_calls");
    if (!calls.is_null() && !calls.is_array()) refuse(where + ".tool_calls", "must be an array");
    for (const auto& call : calls)
        message.tool_calls.push_back(
            tool_call_of(call, where + ".tool_calls[" + std::to_string(message.tool_calls.size()) + "]"));
    return message;
}

Input input_of(const In& line) {
    const auto& messages = member(line, "messages");
    const auto& text = member(line, "text");
    const auto& tools = member(line, "tools");
    if (messages.is_null() == text.is_null()) refuse("", "a line has either messages or text");
    if (!text.is_null()) {
        if (!tools.is_null()) refuse("tools", "tools go with messages, not with text");
        return RenderedText{text_of(text, "text")};
    }
    if (!messages.is_array()) refuse("messages", "must be an array of messages");
    if (!tools.is_null() && !tools.is_array()) refuse("tools", "must be an array");
    Conversation conversation{.messages = {}, .tools_json = tools.is_null() || tools.empty() ? "" : tools.dump()};
    for (const auto& message : messages)
        conversation.messages.push_back(
            message_of(message, "messages[" + std::to_string(conversation.messages.size()) + "]"));
    return conversation;
}

Item item_of(const In& line) {
    check_keys(line, "", {"id", "messages", "text", "tools", "timeout", "group", "metadata"});
    Item item{.input = input_of(line), .id = text_of(line, "id", ""), .group = text_of(line, "group", "")};
    if (const auto& timeout = member(line, "timeout"); !timeout.is_null()) {
        if (!timeout.is_number()) refuse("timeout", "must be seconds, as a number");
        item.timeout = Seconds(timeout.get<double>());
    }
    if (const auto& metadata = member(line, "metadata"); !metadata.is_null()) {
        if (!metadata.is_object()) refuse("metadata", "must be an object");
        item.metadata_json = metadata.dump();
    }
    return item;
}

Out error_json(const Error& error) {
    Out made = {{"code", name(error.code)}, {"reason", error.reason}, {"message", error.message}};
    if (!error.field.empty()) made["field"] = error.field;
    if (error.retry_delay) made["retry_delay"] = static_cast<float>(error.retry_delay->count());
    if (!error.metadata.empty()) made["metadata"] = error.metadata;
    return made;
}

void add_score(Out& line, const Score& score) {
    line["score"] = score.score;
    line["raw_score"] = score.raw_score;
    line["token_count"] = score.token_count;
    line["model_digest"] = score.model_digest;
    if (!score.attributes.empty()) line["attributes"] = score.attributes;
    for (const auto& step : score.steps)
        line["steps"].push_back({{"score", step.score},
                                 {"token_offset", step.token_offset},
                                 {"char_start", step.char_start},
                                 {"char_end", step.char_end}});
}

std::string dump(const Out& line) { return line.dump(-1, ' ', false, Out::error_handler_t::replace); }

}  // namespace

std::variant<Item, CancelLine> read_line(std::string text) {
    std::string id;
    try {
        const bool has_half_pairs = replace_half_pairs(text);
        const auto line = parse(text);
        if (!line.is_object()) refuse("", "a line must be an object");
        if (line.contains("cancel")) {
            check_keys(line, "", {"cancel"});
            if (!line["cancel"].is_string()) refuse("cancel", "must be the id of an item, as text");
            return CancelLine{line["cancel"].get<std::string>()};
        }
        if (const auto& given = member(line, "id"); given.is_string()) id = given.get<std::string>();
        if (has_half_pairs) refuse("", "half of a surrogate pair is no character");
        return item_of(line);
    } catch (const CallError& error) {
        return Item{.input = error.error(), .id = std::move(id)};
    }
}

std::string write_result(const Result& result) {
    Out line = {{"id", result.id}, {"index", result.index}};
    if (const auto* score = result.score())
        add_score(line, *score);
    else
        line["error"] = error_json(*result.error());
    return dump(line);
}

std::string write_stream_error(const Error& error) { return dump({{"stream_error", error_json(error)}}); }
