// Messages as a server sends them.
#pragma once

#include <google/rpc/error_details.pb.h>

#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "rm_grpc/v1/reward_service.pb.h"
#include "rm_grpc_client/error.h"

namespace rm_grpc::tests {

inline v1::ScoreBatchResponse opened(int items = 100, std::int64_t bytes = 1'000'000, std::int64_t max_message_bytes = 0) {
    v1::ScoreBatchResponse response;
    auto& made = *response.mutable_opened();
    made.mutable_window()->set_items(items);
    made.mutable_window()->set_bytes(bytes);
    made.mutable_model()->mutable_limits()->set_max_message_bytes(max_message_bytes);
    return response;
}

inline v1::ItemResult scored(std::string id, float score = 1) {
    v1::ItemResult result;
    result.set_id(std::move(id));
    result.mutable_score()->set_score(score);
    result.mutable_score()->set_raw_score(score);
    return result;
}

inline google::rpc::Status status_of(const Error& error) {
    google::rpc::Status status;
    status.set_code(static_cast<int>(error.code));
    status.set_message(error.message);
    google::rpc::ErrorInfo info;
    info.set_domain("rm_grpc");
    info.set_reason(error.reason);
    info.mutable_metadata()->insert(error.metadata.begin(), error.metadata.end());
    status.add_details()->PackFrom(info);
    if (!error.field.empty()) {
        google::rpc::BadRequest bad;
        bad.add_field_violations()->set_field(error.field);
        status.add_details()->PackFrom(bad);
    }
    if (error.retry_delay) {
        google::rpc::RetryInfo retry;
        set_duration(*retry.mutable_retry_delay(), *error.retry_delay);
        status.add_details()->PackFrom(retry);
    }
    return status;
}

inline v1::ItemResult failed(std::string id, const Error& error) {
    v1::ItemResult result;
    result.set_id(std::move(id));
    *result.mutable_error() = status_of(error);
    return result;
}

inline v1::ScoreBatchResponse results(const std::vector<v1::ItemResult>& given) {
    v1::ScoreBatchResponse response;
    for (const auto& result : given) *response.mutable_results()->add_results() = result;
    return response;
}

inline Error overloaded(double delay = 1) {
    return {.code = Code::resource_exhausted, .reason = "OVERLOADED", .message = "full", .retry_delay = Seconds(delay)};
}

inline Error away(double delay = 1) {
    return {.code = Code::unavailable, .reason = "UNAVAILABLE", .message = "away", .retry_delay = Seconds(delay)};
}

inline Error draining(double delay = 1) {
    return {.code = Code::unavailable, .reason = "DRAINING", .message = "bye", .retry_delay = Seconds(delay)};
}

}  // namespace rm_grpc::tests
