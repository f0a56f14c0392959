// Whether text is UTF-8, as protobuf demands of every string.
#pragma once

#include <string_view>

namespace rm_grpc {

bool is_utf8(std::string_view text) noexcept;

}  // namespace rm_grpc
