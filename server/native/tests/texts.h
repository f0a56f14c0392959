// Random texts, the same on every machine: `seed` is all that they depend on.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace rm_grpc::tests {

class Random {
  public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}

    // Standard distributions differ between libraries, and their bias is no matter here.
    std::size_t below(std::size_t limit) { return engine_() % limit; }
    std::size_t between(std::size_t first, std::size_t last) { return first + below(last - first + 1); }
    bool chance(unsigned percent) { return below(100) < percent; }

    template <class Container>
    const auto& pick(const Container& container) {
        return container[below(std::size(container))];
    }

    template <class Container>
    void shuffle(Container& container) {
        for (auto at = container.size(); at > 1; --at) std::swap(container[at - 1], container[below(at)]);
    }

  private:
    std::mt19937_64 engine_;
};

// UTF-8 of about `bytes` bytes, rich in what the ways of cutting words tell apart.
std::string random_text(Random& random, std::size_t bytes);

// Bytes that are hardly ever UTF-8, but often nearly.
std::string random_bytes(Random& random, std::size_t bytes);

// `length` units of an alphabet, runs among them.
std::string random_word(Random& random, const std::vector<std::string>& alphabet, std::size_t length);

// The characters of a text, one string each; a byte that is not UTF-8 stands alone.
std::vector<std::string> characters(std::string_view text);

bool is_utf8(std::string_view text);

}  // namespace rm_grpc::tests
