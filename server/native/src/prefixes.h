// What conversations have in common: their order by ids, and how many each shares with the one before it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace rm_grpc {

struct Ordered {
    std::vector<std::int64_t> order;   // indices, by ids as unsigned numbers; equal ones stay in their order
    std::vector<std::int64_t> shared;  // leading ids that each has in common with the one before it; 0 for the first
};

Ordered order_by_ids(std::span<const std::span<const std::int32_t>> conversations);

}  // namespace rm_grpc
