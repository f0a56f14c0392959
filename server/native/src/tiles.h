// What is compiled for each instruction set: the inner loops of attention and of linear layers, in float32.
#pragma once

#include <string_view>
#include <vector>

#include "attention_kernel.h"
#include "linear_kernel.h"

namespace rm_grpc {

struct Tiles {
    std::string_view name;
    AttendHead attend_head;
    MultiplyRows multiply_rows;
};

// What this processor has, the fastest first: empty where there is nothing faster than plain code.
const std::vector<Tiles>& tiles();

// Empty for the fastest. Throws std::invalid_argument where this processor has none of that name.
const Tiles& tiles(std::string_view name);

}  // namespace rm_grpc
