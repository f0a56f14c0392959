// Runs a fuzzer's body without a fuzzer: on the files that are named, or on random bytes.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>

#include "check.h"
#include "texts.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

bool holds(const std::string& input) {
    try {
        LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
        return true;
    } catch (const std::exception& error) {
        std::printf("%s\nwith the input %s\n", error.what(), rm_grpc::tests::quoted(input).c_str());
        return false;
    }
}

bool holds_for_random_bytes() {
    rm_grpc::tests::Random random(1);
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    for (unsigned run = 0; run < 20'000 && std::chrono::steady_clock::now() < limit; ++run) {
        const auto size = random.between(1, 300);
        std::string input(1, static_cast<char>(random.below(256)));
        if (run % 2 == 0) {
            input += random_bytes(random, size);
        } else {
            while (input.size() < size) input += static_cast<char>(random.below(random.chance(80) ? 8 : 256));
        }
        if (!holds(input)) return false;
    }
    return true;
}

}  // namespace

int main(int count, char** arguments) {
    bool all = count > 1 || holds_for_random_bytes();
    for (int at = 1; at < count; ++at) {
        std::ifstream file(arguments[at], std::ios::binary);
        all = holds({std::istreambuf_iterator<char>(file), {}}) && all;
    }
    return all ? 0 : 1;
}
