#include "arguments.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

namespace {

using rm_grpc::Seconds;
using rm_grpc::Settings;
using Read = std::function<void(Settings&, const std::string& value)>;

template <class Number>
Number number_of(const std::string& text) {
    Number number{};
    const auto* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || stop != end) throw UsageError("takes a number, not '" + text + "'");
    return number;
}

Seconds seconds_of(const std::string& text) {
    const Seconds seconds(number_of<double>(text));
    if (!(seconds >= Seconds::zero()) || std::isinf(seconds.count()))
        throw UsageError("takes seconds that are not negative, not '" + text + "'");
    return seconds;
}

template <class Choice>
Choice choice_of(const std::string& text, const std::map<std::string_view, Choice>& choices) {
    if (const auto found = choices.find(text); found != choices.end()) return found->second;
    std::string known;
    for (const auto& [name, choice] : choices) known.append(known.empty() ? "" : " or ").append(name);
    throw UsageError("takes " + known + ", not '" + text + "'");
}

std::string read_token(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream read;
    if (!(read << file.rdbuf())) throw UsageError("names a file that cannot be read, or is empty: " + path);
    auto token = read.str();
    token.erase(token.find_last_not_of(" \t\r\n") + 1);
    if (token.empty()) throw UsageError("names a file without a token: " + path);
    return token;
}

Read text(std::string Settings::*member) {
    return [member](Settings& settings, const std::string& value) { settings.*member = value; };
}

const std::map<std::string_view, Read>& flags_with_values() {
    using namespace rm_grpc;
    static const std::map<std::string_view, Read> flags = {
        {"--address", text(&Settings::address)},
        {"--model", text(&Settings::model)},
        {"--ca-file", text(&Settings::ca_file)},
        {"--cert-file", text(&Settings::cert_file)},
        {"--key-file", text(&Settings::key_file)},
        {"--server-name", text(&Settings::server_name)},
        {"--token-file", [](auto& to, const auto& value) { to.token = read_token(value); }},
        {"--timeout", [](auto& to, const auto& value) { to.timeout = seconds_of(value); }},
        {"--reconnect", [](auto& to, const auto& value) { to.reconnect = seconds_of(value); }},
        {"--attempts", [](auto& to, const auto& value) { to.attempts = number_of<int>(value); }},
        {"--ordering",
         [](auto& to, const auto& value) {
             to.ordering =
                 choice_of<Ordering>(value, {{"completion", Ordering::completion}, {"submission", Ordering::submission}});
         }},
        {"--control-tokens",
         [](auto& to, const auto& value) {
             to.options.control_tokens = choice_of<ControlTokens>(
                 value,
                 {{"refuse", ControlTokens::refuse}, {"as_text", ControlTokens::as_text}, {"allow", ControlTokens::allow}});
         }},
        {"--foreign-markers",
         [](auto& to, const auto& value) {
             to.options.foreign_markers =
                 choice_of<ForeignMarkers>(value, {{"refuse", ForeignMarkers::refuse}, {"allow", ForeignMarkers::allow}});
         }},
        {"--special-tokens",
         [](auto& to, const auto& value) {
             to.options.special_tokens =
                 choice_of<SpecialTokens>(value, {{"as_is", SpecialTokens::as_is}, {"add", SpecialTokens::add}});
         }},
        {"--activation",
         [](auto& to, const auto& value) {
             to.options.activation =
                 choice_of<Activation>(value, {{"none", Activation::none}, {"sigmoid", Activation::sigmoid}});
         }},
    };
    return flags;
}

}  // namespace

rm_grpc::Settings read_arguments(int count, const char* const* arguments) {
    Settings settings;
    if (const char* token = std::getenv("RM_GRPC_CLIENT_TOKEN")) settings.token = token;
    for (int at = 1; at < count; ++at) {
        const std::string_view flag = arguments[at];
        if (flag == "--tls") {
            settings.tls = true;
        } else if (flag == "--insecure") {
            settings.insecure = true;
        } else if (const auto found = flags_with_values().find(flag); found == flags_with_values().end()) {
            throw UsageError("there is no flag '" + std::string(flag) + "'");
        } else if (++at == count) {
            throw UsageError(std::string(flag) + " needs a value, as the next argument");
        } else {
            try {
                found->second(settings, arguments[at]);
            } catch (const UsageError& error) {
                throw UsageError(std::string(flag) + " " + error.what());
            }
        }
    }
    return settings;
}
