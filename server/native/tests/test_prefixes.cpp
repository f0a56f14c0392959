// The order of conversations against sorting them whole.
#include <algorithm>
#include <numeric>

#include "check.h"
#include "plain.h"
#include "prefixes.h"
#include "texts.h"

namespace rm_grpc::tests {

namespace {

// Few prefixes and few ids, some of them negative: these come last.
std::vector<IdList> conversations(Random& random) {
    std::vector<IdList> made(random.below(30));
    for (auto& ids : made) {
        if (random.chance(50)) ids = random.pick(made);
        ids.resize(random.chance(50) ? ids.size() : random.below(ids.size() + 1));
        for (auto count = random.below(random.chance(20) ? 200 : 4); count > 0; --count)
            ids.push_back(static_cast<std::int32_t>(random.below(3)) - 1);
    }
    return made;
}

bool less(const IdList& one, const IdList& other) {
    return std::lexicographical_compare(one.begin(), one.end(), other.begin(), other.end(), [](auto left, auto right) {
        return static_cast<std::uint32_t>(left) < static_cast<std::uint32_t>(right);
    });
}

}  // namespace

TEST(prefixes, order) {
    Random random(1);
    for (unsigned round = 0; round < 2000; ++round) {
        const auto made = conversations(random);
        const std::vector<std::span<const std::int32_t>> views(made.begin(), made.end());
        const auto found = order_by_ids(views);
        std::vector<std::size_t> expected(made.size());
        std::iota(expected.begin(), expected.end(), 0);
        std::stable_sort(expected.begin(), expected.end(), [&](auto one, auto other) { return less(made[one], made[other]); });
        CHECK(std::equal(expected.begin(), expected.end(), found.order.begin(), found.order.end(),
                         [](auto one, auto other) { return static_cast<std::int64_t>(one) == other; }));
        CHECK(found.shared.size() == made.size());
        for (std::size_t at = 0; at < made.size(); ++at) {
            const auto& ids = made[expected[at]];
            const auto& before = made[expected[at == 0 ? 0 : at - 1]];
            const auto ends = std::mismatch(ids.begin(), ids.end(), before.begin(), before.end());
            CHECK(found.shared[at] == (at == 0 ? 0 : ends.first - ids.begin()), at);
        }
    }
}

}  // namespace rm_grpc::tests
