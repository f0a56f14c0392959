// Causal attention over a packed row in float32: a run of queries sees the keys of the path that leads to it, and itself.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace rm_grpc {

// Numbers of several heads, [heads, tokens, head_dim]; strides count floats, and the numbers of a head lie side by side.
struct Heads {
    const float* data = nullptr;
    std::size_t heads = 0, tokens = 0, head_dim = 0;
    std::ptrdiff_t head_stride = 0, token_stride = 0;
};

// Keys and values of one layer: those of the row, or of a prefix that was computed before.
struct KeySource {
    Heads keys, values;
};

// Tokens [start, start + length) of a source.
struct Seen {
    std::size_t source, start, length;
};

// Queries [start, start + count) of the row see `path` and, among the row's own keys at the same places, those up to themselves.
struct Run {
    std::size_t start, count;
    std::vector<Seen> path;
};

struct Attention {
    Heads queries;
    std::vector<KeySource> sources;  // the first is the row's own
    std::vector<Run> runs;
    float scale = 1.0f;
    float* output = nullptr;  // [tokens, heads, head_dim], side by side
};

// Writes the output of all queries that are in a run. `instructions` is the name of some of tiles.h, or empty for the fastest.
// Throws std::invalid_argument for shapes that do not fit together, places that are none, and names that this processor has not.
void attend(const Attention& call, std::size_t threads, std::string_view instructions = {});

}  // namespace rm_grpc
