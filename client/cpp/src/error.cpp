#include "rm_grpc_client/error.h"

#include <utility>

namespace rm_grpc {

std::string_view name(Code code) noexcept {
    switch (code) {
        case Code::cancelled: return "CANCELLED";
        case Code::unknown: return "UNKNOWN";
        case Code::invalid_argument: return "INVALID_ARGUMENT";
        case Code::deadline_exceeded: return "DEADLINE_EXCEEDED";
        case Code::not_found: return "NOT_FOUND";
        case Code::already_exists: return "ALREADY_EXISTS";
        case Code::permission_denied: return "PERMISSION_DENIED";
        case Code::resource_exhausted: return "RESOURCE_EXHAUSTED";
        case Code::failed_precondition: return "FAILED_PRECONDITION";
        case Code::aborted: return "ABORTED";
        case Code::out_of_range: return "OUT_OF_RANGE";
        case Code::unimplemented: return "UNIMPLEMENTED";
        case Code::internal: return "INTERNAL";
        case Code::unavailable: return "UNAVAILABLE";
        case Code::data_loss: return "DATA_LOSS";
        case Code::unauthenticated: return "UNAUTHENTICATED";
    }
    return "UNKNOWN";
}

std::string describe(const Error& error) {
    std::string text(name(error.code));
    if (error.reason != text) text.append(" (").append(error.reason).append(")");
    text += ": ";
    if (!error.field.empty()) text.append(error.field).append(": ");
    return text += error.message;
}

CallError::CallError(Error error) : std::runtime_error(describe(error)), error_(std::move(error)) {}

SettingsError::SettingsError(std::string field, const std::string& message)
    : std::invalid_argument(field + ": " + message), field_(std::move(field)) {}

}  // namespace rm_grpc
