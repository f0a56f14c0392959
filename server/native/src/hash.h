// A hash of text for the caches, which compare the texts as well.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace rm_grpc {

inline constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15u, kOther = 0xD6E8FEB86659FD93u;

// Two lanes, so that one multiplication does not wait for the other.
inline std::uint64_t hash_of(std::string_view text) {
    std::uint64_t lanes[2] = {text.size() * kOdd, kOther};
    const auto* at = text.data();
    auto left = text.size();
    for (; left >= 16; at += 16, left -= 16) {
        std::uint64_t parts[2];
        std::memcpy(parts, at, sizeof parts);
        for (int lane = 0; lane < 2; ++lane) {
            lanes[lane] = (lanes[lane] ^ parts[lane]) * kOther;
            lanes[lane] ^= lanes[lane] >> 32;
        }
    }
    std::uint64_t rest[2] = {};
    std::memcpy(rest, at, left);
    auto hash = ((lanes[0] ^ rest[0]) * kOdd) ^ ((lanes[1] ^ rest[1]) * kOther);
    hash ^= hash >> 29;
    hash *= kOdd;
    return hash ^ hash >> 32;
}

}  // namespace rm_grpc
