#include "tiles.h"

#include <stdexcept>
#include <string>

namespace rm_grpc {

void attend_head_avx512(const HeadRun& run);
void attend_head_avx2(const HeadRun& run);
void multiply_rows_avx512(const RowsByPanels& part);
void multiply_rows_avx2(const RowsByPanels& part);

namespace {

std::vector<Tiles> find_tiles() {
    std::vector<Tiles> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) found.push_back({"avx512", attend_head_avx512, multiply_rows_avx512});
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        found.push_back({"avx2", attend_head_avx2, multiply_rows_avx2});
#endif
    return found;
}

}  // namespace

const std::vector<Tiles>& tiles() {
    static const auto found = find_tiles();
    return found;
}

const Tiles& tiles(std::string_view name) {
    for (const auto& each : tiles())
        if (name.empty() || each.name == name) return each;
    throw std::invalid_argument("this processor has no instruction set for tiles" + (name.empty() ? "" : " named " + std::string(name)));
}

}  // namespace rm_grpc
