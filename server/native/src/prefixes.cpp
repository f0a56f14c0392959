#include "prefixes.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace rm_grpc {

namespace {

using Conversation = std::span<const std::int32_t>;

std::size_t common_prefix(Conversation one, Conversation other) {
    const auto length = std::min(one.size(), other.size());
    std::size_t at = 0;
    // Blocks are compared by the library, which knows the processor's widest registers.
    constexpr std::size_t kBlock = 64;
    while (at + kBlock <= length && std::memcmp(&one[at], &other[at], kBlock * sizeof(std::int32_t)) == 0) at += kBlock;
    while (at < length && one[at] == other[at]) ++at;
    return at;
}

bool less(Conversation one, Conversation other) {
    const auto at = common_prefix(one, other);
    if (at == one.size() || at == other.size()) return one.size() < other.size();
    return static_cast<std::uint32_t>(one[at]) < static_cast<std::uint32_t>(other[at]);
}

}  // namespace

Ordered order_by_ids(std::span<const Conversation> conversations) {
    Ordered found;
    found.order.resize(conversations.size());
    std::iota(found.order.begin(), found.order.end(), 0);
    const auto of = [&](std::int64_t at) { return conversations[static_cast<std::size_t>(at)]; };
    std::stable_sort(found.order.begin(), found.order.end(),
                     [&](std::int64_t one, std::int64_t other) { return less(of(one), of(other)); });
    for (std::size_t at = 0; at < found.order.size(); ++at)
        found.shared.push_back(
            at == 0 ? 0 : static_cast<std::int64_t>(common_prefix(of(found.order[at - 1]), of(found.order[at]))));
    return found;
}

}  // namespace rm_grpc
