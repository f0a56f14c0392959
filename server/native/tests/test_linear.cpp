// Linear layers by each instruction set: against sums in double precision, and bit by bit against each other.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.h"
#include "linear.h"
#include "texts.h"
#include "tiles.h"

namespace rm_grpc::tests {

namespace {

struct Layer {
    std::size_t inputs, outputs, rows, row_stride;
    std::vector<float> weights, packed, bias, given;

    Layer(Random& random, std::size_t most_inputs, std::size_t most_outputs, std::size_t most_rows)
        : inputs(1 + random.below(most_inputs)), outputs(1 + random.below(most_outputs)), rows(random.below(most_rows + 1)),
          row_stride(inputs + random.below(4)) {
        weights = numbers(random, outputs * inputs);
        if (random.chance(50)) bias = numbers(random, outputs);
        given.assign(rows * row_stride, NAN);  // nobody may read the gaps
        for (std::size_t row = 0; row < rows; ++row) {
            const auto own = numbers(random, inputs);
            std::copy(own.begin(), own.end(), given.begin() + static_cast<std::ptrdiff_t>(row * row_stride));
        }
        packed.assign(packed_floats(outputs, inputs), NAN);
        pack_weights(weights.data(), outputs, inputs, packed.data());
    }

    static std::vector<float> numbers(Random& random, std::size_t count) {
        std::vector<float> made(count);
        for (auto& each : made) each = static_cast<float>(random.below(20001)) / 10000.0f - 1.0f;
        return made;
    }

    std::vector<float> output(std::string_view name, std::size_t threads, std::size_t first, std::size_t count) const {
        std::vector<float> made(count * outputs, NAN);
        multiply({given.data() + first * row_stride, static_cast<std::ptrdiff_t>(row_stride), count, inputs, outputs, packed.data(),
                  bias.empty() ? nullptr : bias.data(), made.data()},
                 threads, name);
        return made;
    }
};

bool are_same(const float* one, const float* other, std::size_t count) {
    return count == 0 || std::memcmp(one, other, count * sizeof(float)) == 0;
}

void check_layer(const Layer& layer, std::string_view name, std::size_t threads) {
    const auto found = layer.output(name, threads, 0, layer.rows);
    for (std::size_t row = 0; row < layer.rows; ++row)
        for (std::size_t output = 0; output < layer.outputs; ++output) {
            double sum = layer.bias.empty() ? 0 : layer.bias[output];
            for (std::size_t input = 0; input < layer.inputs; ++input)
                sum += double{layer.given[row * layer.row_stride + input]} * double{layer.weights[output * layer.inputs + input]};
            CHECK(std::abs(found[row * layer.outputs + output] - sum) < 1e-4, name, layer.inputs, layer.outputs, row, output, sum);
        }
    const auto plain = layer.output(tiles().back().name, 1, 0, layer.rows);
    CHECK(are_same(found.data(), plain.data(), found.size()), name, layer.inputs, layer.outputs, layer.rows);
}

}  // namespace

TEST(linear, sums) {
    for (const auto& each : tiles()) {
        Random random(1);
        for (unsigned round = 0; round < 60; ++round) check_layer(Layer(random, 500, 100, 40), each.name, 1 + round % 3);
    }
}

TEST(linear, tasks) {
    for (const auto& each : tiles()) {
        Random random(2);
        for (unsigned round = 0; round < 3; ++round) check_layer(Layer(random, 60, 700, 600), each.name, 1 + round);
    }
}

TEST(linear, neighbours) {
    for (const auto& each : tiles()) {
        Random random(3);
        for (unsigned round = 0; round < 20; ++round) {
            const Layer layer(random, 900, 70, 300);
            const auto together = layer.output(each.name, 1, 0, layer.rows);
            for (std::size_t row = 0; row < layer.rows; row += 1 + random.below(40)) {
                const auto count = 1 + random.below(std::min<std::size_t>(layer.rows - row, 15));
                const auto apart = layer.output(each.name, 1, row, count);
                CHECK(are_same(together.data() + row * layer.outputs, apart.data(), apart.size()), each.name, row, count);
            }
        }
    }
}

TEST(linear, refused) {
    Random random(4);
    const Layer layer(random, 10, 10, 10);
    bool refused = false;
    try {
        layer.output("sse2", 1, 0, layer.rows);
    } catch (const std::invalid_argument&) {
        refused = true;
    }
    CHECK(refused);
}

}  // namespace rm_grpc::tests
