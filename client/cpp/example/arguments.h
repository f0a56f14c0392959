// The flags of the program.
#pragma once

#include <stdexcept>

#include "rm_grpc_client/settings.h"

/// Arguments that make no sense; the message says which, and how it is meant.
class UsageError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The settings that the arguments and the environment give.
/// @throws UsageError
rm_grpc::Settings read_arguments(int count, const char* const* arguments);
