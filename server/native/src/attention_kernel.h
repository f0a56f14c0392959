// Between attention.cpp and what is compiled for each instruction set: plain structures without code.
#pragma once

#include <cstddef>

namespace rm_grpc {

constexpr std::size_t kBlockKeys = 256;  // keys whose copies stay near while the queries go over them
constexpr std::size_t kMostRows = 12;    // queries of a tile
constexpr std::size_t kWidest = 32;      // floats of the widest panel

// Keys and values of one head, each row of `head_dim` numbers. The last ones of a run are its own.
struct HeadKeys {
    const float *keys, *values;
    std::ptrdiff_t key_stride, value_stride;
    std::size_t count;
};

// One run, for the `group` heads of queries that share a head of keys.
struct HeadRun {
    const float* queries;
    std::ptrdiff_t query_head_stride, query_stride;
    std::size_t group, count, head_dim;
    float scale;
    const HeadKeys* seen;
    std::size_t seen_count;
    float* output;
    std::ptrdiff_t output_stride;  // from query to query; heads are side by side
    float* scratch;                // `scratch_floats` of them
};

using AttendHead = void (*)(const HeadRun& run);

constexpr std::size_t scratch_floats(std::size_t rows, std::size_t head_dim) {
    const std::size_t padded = (head_dim + kWidest - 1) / kWidest * kWidest;
    return rows * (padded + 2) + (kBlockKeys + kWidest) * head_dim + kBlockKeys * padded + kMostRows * kBlockKeys;
}

}  // namespace rm_grpc
