#include "recipe.h"

#include <array>
#include <stdexcept>

namespace rm_grpc {

Words words_named(std::string_view name) {
    using enum Words;
    static constexpr std::array<std::pair<std::string_view, Words>, 9> kNames{{{"gpt2", gpt2},
                                                                               {"gpt2_digits", gpt2_digits},
                                                                               {"cl100k", cl100k},
                                                                               {"qwen2", qwen2},
                                                                               {"qwen3_5", qwen3_5},
                                                                               {"o200k", o200k},
                                                                               {"tekken", tekken},
                                                                               {"deepseek", deepseek},
                                                                               {"sentence_pieces", sentence_pieces}}};
    for (const auto& [known, words] : kNames)
        if (known == name) return words;
    throw std::invalid_argument("no way to cut words is named " + std::string(name));
}

}  // namespace rm_grpc
