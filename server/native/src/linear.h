// A linear layer in float32, over weights that are laid out once: rows times weights, and a bias.
//
// A row's numbers do not depend on the rows beside it, and the products are added up in one order everywhere: within each 192
// inputs one after the other, then those sums one after the other (see depth_of in linear_tiles.h).
#pragma once

#include <cstddef>
#include <string_view>

namespace rm_grpc {

// Floats that the laid out weights take.
std::size_t packed_floats(std::size_t outputs, std::size_t inputs);

// From [outputs, inputs], rows side by side, to panels of 32 outputs, each [inputs, 32]; there is nothing but 0 beyond the last.
void pack_weights(const float* weights, std::size_t outputs, std::size_t inputs, float* packed, std::size_t threads = 1);

struct Linear {
    const float* rows = nullptr;  // [row_count, inputs]
    std::ptrdiff_t row_stride = 0;
    std::size_t row_count = 0, inputs = 0, outputs = 0;
    const float* packed = nullptr;
    const float* bias = nullptr;  // [outputs], or null
    float* output = nullptr;      // [row_count, outputs], side by side
};

// `instructions` is the name of some of tiles.h, or empty for the fastest. Throws std::invalid_argument for a name that this
// processor has not.
void multiply(const Linear& call, std::size_t threads, std::string_view instructions = {});

}  // namespace rm_grpc
