// Between linear.cpp and what is compiled for each instruction set: plain structures without code.
#pragma once

#include <cstddef>

namespace rm_grpc {

constexpr std::size_t kPanelOutputs = 32;  // outputs that lie side by side, for one input after the other
constexpr std::size_t kMostDepth = 192;    // products that are added up before the sum joins what is there

// Some rows by some panels of the weights. The last panel may be wider than what is left of the output.
struct RowsByPanels {
    const float* rows;
    std::ptrdiff_t row_stride;
    std::size_t row_count, inputs;
    const float* panels;
    std::size_t outputs;
    const float* bias;  // of these outputs, or null
    float* output;
    std::ptrdiff_t output_stride;
    float* scratch;  // row_count * kMostDepth of them
};

using MultiplyRows = void (*)(const RowsByPanels& part);

}  // namespace rm_grpc
