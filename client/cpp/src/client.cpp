#include "rm_grpc_client/client.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "connection.h"
#include "convert.h"
#include "session.h"
#include "status.h"
#include "stream_driver.h"

namespace rm_grpc {

namespace {

constexpr Seconds kLongestCall(1e9);  // a deadline that the system's clock can still count

SessionSettings session_settings(const Settings& settings) {
    return {
        .model = settings.model,
        .options = settings.options,
        .ordering = settings.ordering,
        .timeout = settings.timeout,
        .reconnect = settings.reconnect,
        .attempts = settings.attempts,
    };
}

// Makes a unary call; throws where it fails.
template <class Method, class Request, class Response>
void call(const Connection& connection, const Settings& settings, Method method, const Request& request,
          Response& response) {
    grpc::ClientContext context;
    connection.prepare(context);
    if (settings.timeout)
        context.set_deadline(std::chrono::system_clock::now() + std::chrono::ceil<std::chrono::system_clock::duration>(
                                                                    std::min(*settings.timeout, kLongestCall)));
    const grpc::Status status = (connection.stub().*method)(&context, request, &response);
    if (!status.ok()) throw CallError(error_of(status));
}

}  // namespace

Client::Client(Settings settings)
    : settings_(std::move(settings)), connection_(std::make_shared<const Connection>(settings_)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Stream Client::open_stream() const {
    return Stream(std::make_unique<StreamDriver>(connection_, session_settings(settings_)));
}

std::vector<Result> Client::score(std::vector<Item> items) const {
    StreamDriver stream(connection_, session_settings(settings_));
    std::vector<Result> results(items.size());
    const auto read = [&] {
        auto result = stream.next();
        if (!result) return false;
        results[result->index] = std::move(*result);
        return true;
    };
    for (auto& item : items)
        while (!stream.try_send(item)) read();
    stream.finish();
    while (read()) {
    }
    return results;
}

std::vector<ModelInfo> Client::list_models() const {
    v1::ListModelsResponse response;
    call(*connection_, settings_, &v1::RewardService::Stub::ListModels, v1::ListModelsRequest(), response);
    std::vector<ModelInfo> models;
    for (const auto& model : response.models()) models.push_back(model_of(model));
    return models;
}

ModelInfo Client::get_model() const { return get_model(settings_.model); }

ModelInfo Client::get_model(const std::string& name) const {
    v1::GetModelRequest request;
    request.set_name(name);
    v1::GetModelResponse response;
    call(*connection_, settings_, &v1::RewardService::Stub::GetModel, request, response);
    return model_of(response.model());
}

std::vector<TokenizeResult> Client::tokenize(std::vector<Item> items) const {
    if (items.empty()) return {};
    v1::TokenizeRequest request;
    request.set_model(settings_.model);
    *request.mutable_options() = message_of(settings_.options);
    std::vector<std::string> ids;
    for (auto& item : items) {
        const auto index = std::to_string(ids.size());
        ids.push_back(item.id.empty() ? index : std::move(item.id));
        try {
            *request.add_items() = message_of(std::move(item), index);
        } catch (const CallError& refused) {
            auto error = refused.error();
            error.field = "items[" + index + "]." + error.field;
            throw CallError(std::move(error));
        }
    }
    v1::TokenizeResponse response;
    call(*connection_, settings_, &v1::RewardService::Stub::Tokenize, request, response);
    std::vector<TokenizeResult> results;
    for (const auto& result : response.results())
        if (results.size() < ids.size()) results.push_back(tokenize_result_of(result, ids[results.size()]));
    return results;
}

}  // namespace rm_grpc
