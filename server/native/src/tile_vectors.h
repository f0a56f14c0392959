// Vectors of RM_GRPC_LANES floats, and the loop that all tiles have in common.
//
// Everything is of internal linkage and nothing of the standard library is called but libm: a function that the linker shares
// among sources would be one that is compiled for this instruction set alone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rm_grpc {
namespace {

constexpr std::size_t kLanes = RM_GRPC_LANES, kRows = RM_GRPC_ROWS, kWide = 2 * kLanes;

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef float InMemory __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef std::int32_t Integers __attribute__((vector_size(4 * kLanes)));

inline Floats load(const float* from) { return *reinterpret_cast<const InMemory*>(from); }
inline void store(float* to, Floats value) { *reinterpret_cast<InMemory*>(to) = value; }
// Minus 0 leaves any number as it is, so that this is no sum; plus 0 would be one, for -0.
inline Floats all(float value) { return value - Floats{}; }
inline std::size_t less(std::size_t one, std::size_t other) { return one < other ? one : other; }

// Adds [M, depth] times [depth, kWide] to `sums`; a row of the panel is `step` floats after the one before.
template <std::size_t M>
__attribute__((always_inline)) inline void multiply(const float* rows, std::ptrdiff_t stride, const float* panel, std::size_t step,
                                                    std::size_t depth, Floats (&sums)[M][2]) {
    for (std::size_t at = 0; at < depth; ++at, ++rows, panel += step) {
        const Floats left = load(panel), right = load(panel + kLanes);
#pragma GCC unroll 16
        for (std::size_t row = 0; row < M; ++row) {
            const Floats one = all(rows[static_cast<std::ptrdiff_t>(row) * stride]);
            sums[row][0] += one * left;
            sums[row][1] += one * right;
        }
    }
}

}  // namespace
}  // namespace rm_grpc
