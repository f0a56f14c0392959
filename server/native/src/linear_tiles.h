// Rows by panels of weights, included once for each instruction set (see tile_vectors.h).
#pragma once

#include <cstring>

#include "linear_kernel.h"
#include "tile_vectors.h"

namespace rm_grpc {
namespace {

static_assert(kPanelOutputs % kWide == 0);
constexpr std::size_t kPanelsNearby = 8;  // panels of one depth that stay in the second cache while the rows go over them

// How many products are summed in a row, of how many inputs: as MKL does it on AMD's processors, so that bits can be the same.
constexpr std::size_t depth_of(std::size_t inputs) {
    if (inputs <= kMostDepth) return inputs;
    return inputs < 2 * kMostDepth ? inputs / 2 : kMostDepth;
}

// What a tile's sums are added to: null for nothing, else from row to row `stride` floats apart (0 for a bias).
struct Before {
    const float* data;
    std::ptrdiff_t stride;
};

// M rows by kWide outputs, of which `width` exist.
template <std::size_t M>
void multiply_tile(const float* rows, const float* panel, std::size_t depth, Before before, float* output, std::ptrdiff_t stride,
                   std::size_t width) {
    Floats sums[M][2] = {};
    for (std::size_t row = 0; row < M; ++row) __builtin_prefetch(output + static_cast<std::ptrdiff_t>(row) * stride, 1);
    multiply<M>(rows, kMostDepth, panel, kPanelOutputs, depth, sums);
    for (std::size_t row = 0; row < M; ++row) {
        float* const to = output + static_cast<std::ptrdiff_t>(row) * stride;
        const float* const from = before.data == nullptr ? nullptr : before.data + static_cast<std::ptrdiff_t>(row) * before.stride;
        if (width >= kWide) {
            store(to, from == nullptr ? sums[row][0] : load(from) + sums[row][0]);
            store(to + kLanes, from == nullptr ? sums[row][1] : load(from + kLanes) + sums[row][1]);
        } else {
            for (std::size_t at = 0; at < width; ++at) {
                const float sum = sums[row][at / kLanes][at % kLanes];
                to[at] = from == nullptr ? sum : from[at] + sum;
            }
        }
    }
}

template <std::size_t M = kRows, class... Arguments>
void multiply_tile_of(std::size_t rows, const Arguments&... arguments) {
    if (rows == M) return multiply_tile<M>(arguments...);
    if constexpr (M > 1) multiply_tile_of<M - 1>(rows, arguments...);
}

void multiply_rows(const RowsByPanels& part) {
    const std::size_t most = depth_of(part.inputs);
    for (std::size_t first = 0; first < part.inputs; first += most) {
        const std::size_t depth = less(most, part.inputs - first);
        for (std::size_t row = 0; row < part.row_count; ++row)
            std::memcpy(part.scratch + row * kMostDepth, part.rows + static_cast<std::ptrdiff_t>(row) * part.row_stride + first,
                        depth * sizeof(float));
        for (std::size_t near = 0; near < part.outputs; near += kPanelsNearby * kPanelOutputs) {
            const std::size_t end = less(part.outputs, near + kPanelsNearby * kPanelOutputs);
            for (std::size_t row = 0; row < part.row_count; row += kRows) {
                float* const to = part.output + static_cast<std::ptrdiff_t>(row) * part.output_stride;
                for (std::size_t at = near; at < end; at += kWide) {
                    const float* const panel = part.panels + at / kPanelOutputs * part.inputs * kPanelOutputs +
                                               first * kPanelOutputs + at % kPanelOutputs;
                    const Before before = first != 0 ? Before{to + at, part.output_stride}
                                                     : Before{part.bias == nullptr ? nullptr : part.bias + at, 0};
                    multiply_tile_of(less(kRows, part.row_count - row), part.scratch + row * kMostDepth, panel, depth, before,
                                     to + at, part.output_stride, less(kWide, end - at));
                }
            }
        }
    }
}

}  // namespace
}  // namespace rm_grpc
