// The time that a session is told. Doubles, because a timeout may be longer than the clock's own integers can count.
#pragma once

#include <chrono>

#include "rm_grpc_client/seconds.h"

namespace rm_grpc {

using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Seconds>;

inline TimePoint now() { return std::chrono::steady_clock::now(); }

}  // namespace rm_grpc
