#include "linear.h"

#include <algorithm>
#include <vector>

#include "crew.h"
#include "tiles.h"

namespace rm_grpc {

namespace {

constexpr std::size_t kTaskRows = 240, kTaskOutputs = 8 * kPanelOutputs;

constexpr std::size_t tasks_of(std::size_t all, std::size_t each) { return (all + each - 1) / each; }

}  // namespace

std::size_t packed_floats(std::size_t outputs, std::size_t inputs) {
    return tasks_of(outputs, kPanelOutputs) * kPanelOutputs * inputs;
}

void pack_weights(const float* weights, std::size_t outputs, std::size_t inputs, float* packed, std::size_t threads) {
    run_tasks(tasks_of(outputs, kPanelOutputs), threads, [&](std::size_t panel) {
        const auto first = panel * kPanelOutputs;
        float* to = packed + first * inputs;
        for (std::size_t input = 0; input < inputs; ++input)
            for (std::size_t output = first; output < first + kPanelOutputs; ++output)
                *to++ = output < outputs ? weights[output * inputs + input] : 0.0f;
    });
}

void multiply(const Linear& call, std::size_t threads, std::string_view instructions) {
    const auto multiply_rows = tiles(instructions).multiply_rows;
    const auto columns = tasks_of(call.outputs, kTaskOutputs);
    run_tasks(tasks_of(call.row_count, kTaskRows) * columns, threads, [&](std::size_t task) {
        const auto row = task / columns * kTaskRows, output = task % columns * kTaskOutputs;
        static thread_local std::vector<float> scratch(kTaskRows * kMostDepth);
        multiply_rows({.rows = call.rows + static_cast<std::ptrdiff_t>(row) * call.row_stride,
                       .row_stride = call.row_stride,
                       .row_count = std::min(kTaskRows, call.row_count - row),
                       .inputs = call.inputs,
                       .panels = call.packed + output * call.inputs,
                       .outputs = std::min(kTaskOutputs, call.outputs - output),
                       .bias = call.bias == nullptr ? nullptr : call.bias + output,
                       .output = call.output + row * call.outputs + output,
                       .output_stride = static_cast<std::ptrdiff_t>(call.outputs),
                       .scratch = scratch.data()});
    });
}

}  // namespace rm_grpc
