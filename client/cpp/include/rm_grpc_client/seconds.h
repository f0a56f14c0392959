// The unit of every time in the interface.
#pragma once

#include <chrono>

namespace rm_grpc {

/// Seconds, whole or not; `30s` and `500ms` of std::chrono convert to it.
using Seconds = std::chrono::duration<double>;

}  // namespace rm_grpc
