// What an address says about where its server is.
#pragma once

#include <string_view>

namespace rm_grpc {

/// Whether what is sent there cannot leave this machine. Addresses that are not understood may be anywhere.
bool is_local(std::string_view address);

}  // namespace rm_grpc
