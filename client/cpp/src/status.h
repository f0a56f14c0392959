// Errors as they travel, and as the client makes them itself.
#pragma once

#include <google/rpc/status.pb.h>
#include <grpcpp/support/status.h>

#include <string>
#include <string_view>

#include "rm_grpc_client/error.h"

namespace rm_grpc {

/// An error of the client's own.
Error own_error(Code code, std::string_view reason, std::string message, std::string field = {});

/// The error that a status tells of.
Error error_of(const google::rpc::Status& status);

/// The error of a call that failed: its rich status where the server sent one, else what its code says.
Error error_of(const grpc::Status& status);

}  // namespace rm_grpc
