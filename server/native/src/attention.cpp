#include "attention.h"

#include <stdexcept>

#include "crew.h"
#include "tiles.h"

namespace rm_grpc {

namespace {

void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

bool holds(std::size_t tokens, std::size_t start, std::size_t length) { return start <= tokens && length <= tokens - start; }

void check(const Attention& call) {
    require(!call.sources.empty(), "the row's own keys are missing");
    require(call.queries.head_dim != 0, "a head has at least one number");
    const auto& row = call.sources.front().keys;
    require(row.heads != 0 && call.queries.heads % row.heads == 0, "heads of queries must be a multiple of those of keys");
    for (const auto& source : call.sources)
        for (const auto* const each : {&source.keys, &source.values})
            require(each->heads == row.heads && each->head_dim == call.queries.head_dim && each->tokens == source.keys.tokens,
                    "keys and values must have the same shape, and the width of the queries");
    require(row.tokens == call.queries.tokens, "the row has as many keys as queries");
    for (const auto& run : call.runs) {
        require(run.count != 0 && holds(call.queries.tokens, run.start, run.count), "a run is outside the row");
        for (const auto& seen : run.path) {
            require(seen.source < call.sources.size(), "a path names a source that there is not");
            require(holds(call.sources[seen.source].keys.tokens, seen.start, seen.length), "a path is outside its source");
        }
    }
}

HeadKeys keys_of(const KeySource& source, std::size_t head, std::size_t start, std::size_t count) {
    const auto from = [&](const Heads& heads) {
        return heads.data + static_cast<std::ptrdiff_t>(head) * heads.head_stride + static_cast<std::ptrdiff_t>(start) * heads.token_stride;
    };
    return {from(source.keys), from(source.values), source.keys.token_stride, source.values.token_stride, count};
}

void attend_run(const Attention& call, const Run& run, std::size_t key_head, AttendHead attend_head, std::vector<float>& scratch) {
    const auto& queries = call.queries;
    const std::size_t group = queries.heads / call.sources.front().keys.heads, head = key_head * group;
    std::vector<HeadKeys> seen;
    seen.reserve(run.path.size() + 1);
    for (const auto& part : run.path)
        if (part.length != 0) seen.push_back(keys_of(call.sources[part.source], key_head, part.start, part.length));
    seen.push_back(keys_of(call.sources.front(), key_head, run.start, run.count));
    const auto needed = scratch_floats(group * run.count, queries.head_dim);
    if (scratch.size() < needed) scratch.resize(needed);
    attend_head({.queries = queries.data + static_cast<std::ptrdiff_t>(head) * queries.head_stride +
                            static_cast<std::ptrdiff_t>(run.start) * queries.token_stride,
                 .query_head_stride = queries.head_stride,
                 .query_stride = queries.token_stride,
                 .group = group,
                 .count = run.count,
                 .head_dim = queries.head_dim,
                 .scale = call.scale,
                 .seen = seen.data(),
                 .seen_count = seen.size(),
                 .output = call.output + (run.start * queries.heads + head) * queries.head_dim,
                 .output_stride = static_cast<std::ptrdiff_t>(queries.heads * queries.head_dim),
                 .scratch = scratch.data()});
}

}  // namespace

void attend(const Attention& call, std::size_t threads, std::string_view instructions) {
    const auto attend_head = tiles(instructions).attend_head;
    check(call);
    const std::size_t key_heads = call.sources.front().keys.heads;
    run_tasks(call.runs.size() * key_heads, threads, [&](std::size_t task) {
        static thread_local std::vector<float> scratch;
        attend_run(call, call.runs[task / key_heads], task % key_heads, attend_head, scratch);
    });
}

}  // namespace rm_grpc
