// The work on a head, included once for each instruction set, with tiles of RM_GRPC_ROWS queries (see tile_vectors.h).
#pragma once

#include <cmath>
#include <cstring>

#include "attention_kernel.h"
#include "tile_vectors.h"

namespace rm_grpc {
namespace {

static_assert(kRows <= kMostRows && kWide <= kWidest && kBlockKeys % kWide == 0);

// 2 to the power of x, for x of at most 0, to about one unit in the last place; 0 where that is no normal number.
inline Floats power_of_two(Floats x) {
    const Integers is_nothing = x < all(-126.0f);
    const Floats bounded = is_nothing ? all(-126.0f) : x;
    const Floats magic = all(12582912.0f);  // 1.5 * 2^23: what is added to it is rounded to a whole number
    const Floats rounded = bounded + magic;
    const Floats rest = bounded - (rounded - magic);
    Floats power = all(1.5403530e-4f);  // the series of 2^rest, rest from -0.5 to 0.5
    power = power * rest + 1.3333558e-3f;
    power = power * rest + 9.6181291e-3f;
    power = power * rest + 5.5504109e-2f;
    power = power * rest + 2.4022651e-1f;
    power = power * rest + 6.9314718e-1f;
    power = power * rest + 1.0f;
    const Integers exponent = ((Integers)rounded - (Integers)magic) << 23;
    return is_nothing ? Floats{} : (Floats)((Integers)power + exponent);
}

// Keys in panels of kWide, each [head_dim, kWide]; there is nothing but 0 beyond the last key.
void pack_keys(const float* keys, std::ptrdiff_t stride, std::size_t count, std::size_t depth, float* to) {
    for (std::size_t first = 0; first < count; first += kWide, to += depth * kWide) {
        const std::size_t here = less(kWide, count - first);
        if (here < kWide) std::memset(to, 0, depth * kWide * sizeof(float));
        for (std::size_t key = 0; key < here; ++key) {
            const float* const row = keys + static_cast<std::ptrdiff_t>(first + key) * stride;
            for (std::size_t at = 0; at < depth; ++at) to[at * kWide + key] = row[at];
        }
    }
}

// Values in panels of kWide numbers of a head, each [count, kWide]; there is nothing but 0 beyond the last number.
void pack_values(const float* values, std::ptrdiff_t stride, std::size_t count, std::size_t depth, float* to) {
    for (std::size_t first = 0; first < depth; first += kWide) {
        const std::size_t here = less(kWide, depth - first);
        if (here < kWide) std::memset(to, 0, count * kWide * sizeof(float));
        for (std::size_t key = 0; key < count; ++key, to += kWide)
            std::memcpy(to, values + static_cast<std::ptrdiff_t>(key) * stride + first, here * sizeof(float));
    }
}

// Some keys as the tiles read them.
struct Block {
    const float *keys, *values;
    std::size_t count;
};

// What a tile's queries have so far: the sum of values by their weights [M, padded], the highest score, the sum of weights.
struct Sums {
    float *values, *highest, *weights;
    std::size_t padded;
};

// M queries over one block, of which query i sees the first `visible + i` keys, as far as there are any.
template <std::size_t M>
void tile(const float* queries, std::ptrdiff_t stride, const Block& block, std::size_t visible, std::size_t depth, float scale,
          float* scores, const Sums& sums) {
    const std::size_t count = less(block.count, visible + M - 1), panels = (count + kWide - 1) / kWide;
    for (std::size_t panel = 0; panel < panels; ++panel) {
        Floats products[M][2] = {};
        multiply<M>(queries, stride, block.keys + panel * depth * kWide, kWide, depth, products);
        for (std::size_t row = 0; row < M; ++row) {
            store(scores + row * kBlockKeys + panel * kWide, products[row][0]);
            store(scores + row * kBlockKeys + panel * kWide + kLanes, products[row][1]);
        }
    }
    for (std::size_t row = 0; row < M; ++row) {
        float* const own = scores + row * kBlockKeys;
        for (std::size_t key = less(count, visible + row); key < panels * kWide; ++key) own[key] = -INFINITY;
        Floats most = load(own);
        for (std::size_t key = kLanes; key < panels * kWide; key += kLanes) {
            const Floats other = load(own + key);
            most = most > other ? most : other;
        }
        const float before = sums.highest[row];
        float highest = before;
        for (std::size_t lane = 0; lane < kLanes; ++lane) highest = most[lane] * scale > highest ? most[lane] * scale : highest;
        Floats added = {};
        for (std::size_t key = 0; key < panels * kWide; key += kLanes) {
            const Floats weight = power_of_two(load(own + key) * scale - all(highest));
            store(own + key, weight);
            added += weight;
        }
        const float kept = exp2f(before - highest);
        float weights = sums.weights[row] * kept;
        for (std::size_t lane = 0; lane < kLanes; ++lane) weights += added[lane];
        float* const values = sums.values + row * sums.padded;
        if (before != highest)
            for (std::size_t at = 0; at < sums.padded; at += kLanes) store(values + at, load(values + at) * kept);
        sums.highest[row] = highest;
        sums.weights[row] = weights;
    }
    for (std::size_t first = 0; first < sums.padded; first += kWide) {
        float* const values = sums.values + first;
        Floats products[M][2];
        for (std::size_t row = 0; row < M; ++row) {
            products[row][0] = load(values + row * sums.padded);
            products[row][1] = load(values + row * sums.padded + kLanes);
        }
        multiply<M>(scores, kBlockKeys, block.values + first * block.count, kWide, count, products);
        for (std::size_t row = 0; row < M; ++row) {
            store(values + row * sums.padded, products[row][0]);
            store(values + row * sums.padded + kLanes, products[row][1]);
        }
    }
}

// `tile` of as many queries as there are.
template <std::size_t M = kRows, class... Arguments>
void tile_of(std::size_t rows, const Arguments&... arguments) {
    if (rows == M) return tile<M>(arguments...);
    if constexpr (M > 1) tile_of<M - 1>(rows, arguments...);
}

void attend_head(const HeadRun& run) {
    const std::size_t depth = run.head_dim, padded = (depth + kWide - 1) / kWide * kWide, rows = run.group * run.count;
    const float scale = run.scale * 1.44269504088896340736f;  // weights are powers of two
    float* const highest = run.scratch;
    float* const weights = highest + rows;
    float* const values = weights + rows;
    float* const scores = values + rows * padded;
    float* const keys_copy = scores + kRows * kBlockKeys;
    float* const values_copy = keys_copy + (kBlockKeys + kWide) * depth;
    for (std::size_t row = 0; row < rows; ++row) highest[row] = -INFINITY;
    std::memset(weights, 0, rows * (padded + 1) * sizeof(float));
    for (std::size_t part = 0; part < run.seen_count; ++part) {
        const HeadKeys& seen = run.seen[part];
        const bool is_own = part + 1 == run.seen_count;
        for (std::size_t first = 0; first < seen.count; first += kBlockKeys) {
            const Block block{keys_copy, values_copy, less(kBlockKeys, seen.count - first)};
            const auto at = static_cast<std::ptrdiff_t>(first);
            pack_keys(seen.keys + at * seen.key_stride, seen.key_stride, block.count, depth, keys_copy);
            pack_values(seen.values + at * seen.value_stride, seen.value_stride, block.count, depth, values_copy);
            for (std::size_t head = 0; head < run.group; ++head) {
                const float* const queries = run.queries + static_cast<std::ptrdiff_t>(head) * run.query_head_stride;
                // Queries before a block of their own run see nothing of it.
                for (std::size_t query = is_own ? first : 0; query < run.count; query += kRows) {
                    const std::size_t row = head * run.count + query;
                    const std::size_t visible = is_own ? less(query + 1 - first, block.count) : block.count;
                    const Sums sums{values + row * padded, highest + row, weights + row, padded};
                    tile_of(less(kRows, run.count - query), queries + static_cast<std::ptrdiff_t>(query) * run.query_stride,
                            run.query_stride, block, visible, depth, scale, scores, sums);
                }
            }
        }
    }
    for (std::size_t head = 0; head < run.group; ++head)
        for (std::size_t query = 0; query < run.count; ++query) {
            const std::size_t row = head * run.count + query;
            float* const to = run.output + static_cast<std::ptrdiff_t>(query) * run.output_stride + head * depth;
            const float* const from = values + row * padded;
            const float share = 1.0f / weights[row];
            for (std::size_t at = 0; at < depth; ++at) to[at] = from[at] * share;
        }
}

}  // namespace
}  // namespace rm_grpc
