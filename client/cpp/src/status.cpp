#include "status.h"

#include <google/rpc/error_details.pb.h>

#include <algorithm>
#include <utility>

#include "convert.h"

namespace rm_grpc {

namespace {

Code code_of(int number) noexcept {
    return number >= static_cast<int>(Code::cancelled) && number <= static_cast<int>(Code::unauthenticated)
               ? static_cast<Code>(number)
               : Code::unknown;
}

// What a code means where the server gave no reason.
std::string_view reason_of(Code code) noexcept {
    switch (code) {
        case Code::invalid_argument: return reason::invalid_request;
        case Code::not_found: return reason::model_not_found;
        case Code::already_exists: return reason::duplicate_id;
        case Code::failed_precondition: return reason::tokenizer_mismatch;
        default: return name(code);
    }
}

}  // namespace

Error own_error(Code code, std::string_view reason, std::string message, std::string field) {
    return {.code = code, .reason = std::string(reason), .message = std::move(message), .field = std::move(field)};
}

Error error_of(const google::rpc::Status& status) {
    const auto code = code_of(status.code());
    auto error = own_error(code, reason_of(code), status.message());
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    for (const auto& detail : status.details()) {
        if (detail.UnpackTo(&info)) {
            if (!info.reason().empty()) error.reason = info.reason();
            error.metadata = {info.metadata().begin(), info.metadata().end()};
        } else if (detail.UnpackTo(&bad_request)) {
            if (!bad_request.field_violations().empty()) error.field = bad_request.field_violations(0).field();
        } else if (detail.UnpackTo(&retry)) {
            error.retry_delay = std::max(Seconds::zero(), seconds_of(retry.retry_delay()));
        }
    }
    return error;
}

Error error_of(const grpc::Status& status) {
    google::rpc::Status rich;
    if (!status.error_details().empty() && rich.ParseFromString(status.error_details())) return error_of(rich);
    const auto code = code_of(status.error_code());
    // gRPC itself says this of messages that it refuses, and without details.
    const bool too_large =
        code == Code::resource_exhausted && status.error_message().find("larger than max") != std::string::npos;
    return own_error(code, too_large ? reason::message_too_large : reason_of(code), status.error_message());
}

}  // namespace rm_grpc
