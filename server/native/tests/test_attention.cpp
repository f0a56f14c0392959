// Attention by each instruction set against sums in double precision.
#include <algorithm>
#include <cmath>

#include "attention.h"
#include "check.h"
#include "texts.h"
#include "tiles.h"

namespace rm_grpc::tests {

namespace {

// [heads, tokens, head_dim] with gaps of NaN that nobody may read: behind each token, and behind each head.
struct Numbers {
    Heads heads;
    std::vector<float> held;

    Numbers(Random& random, std::size_t count, std::size_t tokens, std::size_t head_dim, float spread) {
        const auto token_stride = head_dim + random.below(3), head_stride = tokens * token_stride + random.below(5);
        held.assign(count * head_stride, NAN);
        for (std::size_t head = 0; head < count; ++head)
            for (std::size_t token = 0; token < tokens; ++token)
                for (std::size_t at = 0; at < head_dim; ++at)
                    held[head * head_stride + token * token_stride + at] =
                        spread * (static_cast<float>(random.below(20001)) / 10000.0f - 1.0f);
        heads = {held.data(), count, tokens, head_dim, static_cast<std::ptrdiff_t>(head_stride),
                 static_cast<std::ptrdiff_t>(token_stride)};
    }

    const float* at(std::size_t head, std::size_t token) const {
        return held.data() + static_cast<std::ptrdiff_t>(head) * heads.head_stride +
               static_cast<std::ptrdiff_t>(token) * heads.token_stride;
    }
};

struct Case {
    std::vector<Numbers> numbers;  // queries, then keys and values of each source
    Attention call;
    std::vector<float> output;

    Case(Random& random, std::size_t head_dim, std::size_t longest) {
        const std::size_t key_heads = 1 + random.below(3), heads = key_heads * (1 + random.below(4));
        std::vector<std::size_t> lengths(1 + random.below(5));
        std::size_t tokens = 0;
        for (auto& length : lengths) tokens += length = 1 + random.below(longest);
        std::vector<std::size_t> stored(random.below(3));
        for (auto& length : stored) length = 1 + random.below(longest);
        numbers.emplace_back(random, heads, tokens, head_dim, random.chance(20) ? 30.0f : 1.0f);
        for (std::size_t source = 0; source <= stored.size(); ++source)
            for (unsigned each = 0; each < 2; ++each)
                numbers.emplace_back(random, key_heads, source == 0 ? tokens : stored[source - 1], head_dim, 2.0f);
        call.queries = numbers[0].heads;
        for (std::size_t at = 1; at < numbers.size(); at += 2) call.sources.push_back({numbers[at].heads, numbers[at + 1].heads});
        std::size_t start = 0;
        for (const auto length : lengths) {
            Run run{start, length, {}};
            for (auto parts = random.below(4); parts > 0; --parts) {
                const auto source = random.below(call.sources.size());
                const auto there = call.sources[source].keys.tokens, from = random.below(there + 1);
                run.path.push_back({source, from, random.below(there - from + 1)});
            }
            call.runs.push_back(run);
            start += length;
        }
        call.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
        output.assign(tokens * heads * head_dim, NAN);
        call.output = output.data();
    }

    // One query of a run, over one head.
    std::vector<double> expected(const Run& run, std::size_t query, std::size_t head) const {
        const auto head_dim = call.queries.head_dim, key_head = head / (call.queries.heads / call.sources[0].keys.heads);
        std::vector<std::pair<const float*, const float*>> seen;
        const auto see = [&](const Seen& part) {
            for (auto at = part.start; at < part.start + part.length; ++at)
                seen.emplace_back(numbers[1 + 2 * part.source].at(key_head, at), numbers[2 + 2 * part.source].at(key_head, at));
        };
        for (const auto& part : run.path) see(part);
        see({0, run.start, query + 1});
        const float* const own = numbers[0].at(head, run.start + query);
        std::vector<double> scores;
        for (const auto& [key, value] : seen) {
            double product = 0;
            for (std::size_t at = 0; at < head_dim; ++at) product += double{own[at]} * key[at];
            scores.push_back(product * call.scale);
        }
        const double highest = *std::max_element(scores.begin(), scores.end());
        double total = 0;
        std::vector<double> sums(head_dim, 0.0);
        for (std::size_t at = 0; at < seen.size(); ++at) {
            const double weight = std::exp(scores[at] - highest);
            total += weight;
            for (std::size_t number = 0; number < head_dim; ++number) sums[number] += weight * seen[at].second[number];
        }
        for (auto& sum : sums) sum /= total;
        return sums;
    }
};

void check_case(Case& made, std::string_view name, std::size_t threads) {
    std::fill(made.output.begin(), made.output.end(), NAN);
    attend(made.call, threads, name);
    const auto heads = made.call.queries.heads, head_dim = made.call.queries.head_dim;
    for (const auto& run : made.call.runs)
        for (std::size_t query = 0; query < run.count; ++query)
            for (std::size_t head = 0; head < heads; ++head) {
                const auto sums = made.expected(run, query, head);
                const float* const found = made.output.data() + ((run.start + query) * heads + head) * head_dim;
                for (std::size_t at = 0; at < head_dim; ++at)
                    CHECK(std::abs(found[at] - sums[at]) < 2e-4, name, run.start, query, head, at, found[at], sums[at]);
            }
}

template <class Change>
bool is_refused(Change change) {
    Random random(5);
    Case made(random, 16, 9);
    change(made.call);
    try {
        attend(made.call, 1);
    } catch (const std::invalid_argument&) {
        return true;
    }
    return false;
}

}  // namespace

TEST(attention, small) {
    for (const auto& each : tiles()) {
        Random random(1);
        for (unsigned round = 0; round < 150; ++round) {
            Case made(random, 1 + random.below(70), 40);
            check_case(made, each.name, 1 + round % 3);
        }
    }
}

TEST(attention, blocks) {
    for (const auto& each : tiles()) {
        Random random(2);
        for (unsigned round = 0; round < 4; ++round) {
            Case made(random, 64, 600);
            check_case(made, each.name, 1);
        }
    }
}

TEST(attention, refused) {
    if (tiles().empty()) return;
    CHECK(!is_refused([](Attention&) {}));
    CHECK(is_refused([](Attention& call) { call.sources.clear(); }));
    CHECK(is_refused([](Attention& call) { call.queries.head_dim = 0; }));
    CHECK(is_refused([](Attention& call) { call.sources[0].values.head_dim += 1; }));
    CHECK(is_refused([](Attention& call) { call.sources[0].values.tokens -= 1; }));
    CHECK(is_refused([](Attention& call) { call.queries.tokens += 1; }));
    CHECK(is_refused([](Attention& call) { call.sources[0].keys.heads = call.sources[0].values.heads = call.queries.heads + 1; }));
    CHECK(is_refused([](Attention& call) { call.runs[0].count = 0; }));
    CHECK(is_refused([](Attention& call) { call.runs.push_back({call.queries.tokens, 1, {}}); }));
    CHECK(is_refused([](Attention& call) { call.runs[0].path = {{call.sources.size(), 0, 1}}; }));
    CHECK(is_refused([](Attention& call) { call.runs[0].path = {{0, 1, call.queries.tokens}}; }));
    CHECK(is_refused([](Attention& call) { call.runs[0].path = {{0, SIZE_MAX, 2}}; }));
    bool refused = false;
    try {
        attend({}, 1, "sse2");
    } catch (const std::invalid_argument&) {
        refused = true;
    }
    CHECK(refused);
}

}  // namespace rm_grpc::tests
