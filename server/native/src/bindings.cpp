// The core for Python: strings in, arrays out, the GIL released in between.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <new>
#include <optional>

#include "attention.h"
#include "encoder.h"
#include "linear.h"
#include "normalize.h"
#include "prefixes.h"
#include "recipe.h"
#include "tiles.h"
#include "unicode_tables.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using rm_grpc::TokenId;
using IdArray = nb::ndarray<nb::numpy, std::int32_t, nb::ndim<1>>;
using LongArray = nb::ndarray<nb::numpy, std::int64_t, nb::ndim<1>>;
using GivenToken = std::tuple<std::string, TokenId, bool, bool, bool>;  // as the fields of AddedToken
using GivenIds = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// An array that owns what it shows.
LongArray array_of(std::vector<std::int64_t> values) {
    auto* const kept = new std::vector<std::int64_t>(std::move(values));
    const nb::capsule owner(kept, [](void* held) noexcept { delete static_cast<std::vector<std::int64_t>*>(held); });
    return LongArray(kept->data(), {kept->size()}, owner);
}

// The UTF-8 of strings that stay alive as long as `texts` does. A lone surrogate raises UnicodeEncodeError.
std::vector<std::string_view> views_of(const nb::list& texts) {
    std::vector<std::string_view> views;
    views.reserve(nb::len(texts));
    for (const auto text : texts) {
        if (!PyUnicode_Check(text.ptr())) throw nb::type_error("texts must be a list of str");
        Py_ssize_t size = 0;
        const char* const utf8 = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
        if (utf8 == nullptr) throw nb::python_error();
        views.emplace_back(utf8, static_cast<std::size_t>(size));
    }
    return views;
}

// `texts` is the caller's own: nobody may change it while the GIL is released.
nb::tuple encode(const rm_grpc::Encoder& encoder, const nb::list& texts, bool plain,
                 const std::optional<std::string>& instructions) {
    const rm_grpc::EncodeOptions options{
        .plain = plain, .instructions = instructions ? &rm_grpc::instructions(*instructions) : nullptr};
    const auto views = views_of(texts);
    rm_grpc::Ids ids;
    std::vector<std::int64_t> offsets{0};
    {
        const nb::gil_scoped_release released;
        encoder.encode(views, options, ids, offsets);
    }
    const auto count = ids.size();
    auto* const data = ids.release();
    const nb::capsule ids_owner(data, [](void* held) noexcept { std::free(held); });
    return nb::make_tuple(IdArray(data, {count}, ids_owner), array_of(std::move(offsets)));
}

// Bytes of the text that each id stands for; 0 for one that is no token.
LongArray lengths_of(const rm_grpc::Encoder& encoder) {
    std::vector<std::int64_t> lengths(encoder.vocabulary().size());
    for (std::size_t id = 0; id < lengths.size(); ++id)
        lengths[id] = static_cast<std::int64_t>(encoder.vocabulary().length(static_cast<TokenId>(id)));
    return array_of(std::move(lengths));
}

nb::tuple order_by_ids(const std::vector<GivenIds>& conversations) {
    std::vector<std::span<const std::int32_t>> spans;
    spans.reserve(conversations.size());
    for (const auto& ids : conversations) spans.emplace_back(ids.data(), ids.size());
    rm_grpc::Ordered found;
    {
        const nb::gil_scoped_release released;
        found = rm_grpc::order_by_ids(spans);
    }
    return nb::make_tuple(array_of(std::move(found.order)), array_of(std::move(found.shared)));
}

using GivenHeads = nb::ndarray<const float, nb::ndim<3>, nb::device::cpu>;
using GivenPlaces = nb::ndarray<const std::int64_t, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

rm_grpc::Heads heads_of(const GivenHeads& given) {
    if (given.stride(2) != 1) throw nb::value_error("the numbers of a head must lie side by side");
    return {.data = given.data(),
            .heads = given.shape(0),
            .tokens = given.shape(1),
            .head_dim = given.shape(2),
            .head_stride = given.stride(0),
            .token_stride = given.stride(1)};
}

std::size_t place(std::int64_t number) {
    if (number < 0) throw nb::value_error("places and lengths are not negative");
    return static_cast<std::size_t>(number);
}

// Each run takes the next `path` entries: its third number says how many.
std::vector<rm_grpc::Run> runs_of(const GivenPlaces& runs, const GivenPlaces& path) {
    std::vector<rm_grpc::Run> found;
    found.reserve(runs.shape(0));
    std::size_t at = 0;
    for (std::size_t run = 0; run < runs.shape(0); ++run) {
        const std::int64_t* const row = runs.data() + 3 * run;
        const std::size_t end = at + place(row[2]);
        if (end < at || end > path.shape(0)) throw nb::value_error("there are fewer parts of paths than the runs take");
        auto& made = found.emplace_back(rm_grpc::Run{place(row[0]), place(row[1]), {}});
        for (; at < end; ++at) {
            const std::int64_t* const part = path.data() + 3 * at;
            made.path.push_back({place(part[0]), place(part[1]), place(part[2])});
        }
    }
    return found;
}

void attend(const GivenHeads& queries, const std::vector<std::pair<GivenHeads, GivenHeads>>& sources, const GivenPlaces& runs,
            const GivenPlaces& path, float scale, const Output& output, std::size_t threads, const std::string& instructions) {
    rm_grpc::Attention call{.queries = heads_of(queries), .sources = {}, .runs = runs_of(runs, path), .scale = scale,
                            .output = output.data()};
    for (const auto& [keys, values] : sources) call.sources.push_back({heads_of(keys), heads_of(values)});
    if (output.shape(0) != call.queries.tokens || output.shape(1) != call.queries.heads || output.shape(2) != call.queries.head_dim)
        throw nb::value_error("the output must be [tokens, heads, head_dim] of the queries");
    const nb::gil_scoped_release released;
    rm_grpc::attend(call, threads, instructions);
}

using GivenRows = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>;
using GivenWeights = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using GivenBias = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Packed = nb::ndarray<nb::numpy, float, nb::shape<-1, -1, rm_grpc::kPanelOutputs>>;
using GivenPacked = nb::ndarray<const float, nb::shape<-1, -1, rm_grpc::kPanelOutputs>, nb::c_contig, nb::device::cpu>;
using OutputRows = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr std::align_val_t kLine{64};  // whole lines are loaded, faster where they begin at a multiple of their bytes

Packed pack_weights(const GivenWeights& weights, std::size_t threads) {
    const std::size_t outputs = weights.shape(0), inputs = weights.shape(1), floats = rm_grpc::packed_floats(outputs, inputs);
    if (floats == 0) throw nb::value_error("a layer has inputs and outputs");
    auto* const data = static_cast<float*>(::operator new(floats * sizeof(float), kLine));
    const nb::capsule owner(data, [](void* held) noexcept { ::operator delete(held, kLine); });
    {
        const nb::gil_scoped_release released;
        rm_grpc::pack_weights(weights.data(), outputs, inputs, data, threads);
    }
    return Packed(data, {floats / inputs / rm_grpc::kPanelOutputs, inputs, rm_grpc::kPanelOutputs}, owner);
}

void linear(const GivenRows& rows, const GivenPacked& packed, const std::optional<GivenBias>& bias, const OutputRows& output,
            std::size_t threads, const std::string& instructions) {
    const std::size_t inputs = rows.shape(1), outputs = output.shape(1);
    if (inputs == 0 || outputs == 0) throw nb::value_error("a layer has inputs and outputs");
    if (packed.shape(1) != inputs || packed.size() != rm_grpc::packed_floats(outputs, inputs))
        throw nb::value_error("packed weights must be [outputs / 32 rounded up, inputs, 32]");
    if (output.shape(0) != rows.shape(0)) throw nb::value_error("the output has as many rows as what is given");
    if (rows.shape(0) != 0 && rows.shape(1) > 1 && rows.stride(1) != 1)
        throw nb::value_error("the numbers of a row must lie side by side");
    if (bias && bias->shape(0) != outputs) throw nb::value_error("the bias has as many numbers as there are outputs");
    const rm_grpc::Linear call{.rows = rows.data(), .row_stride = rows.stride(0), .row_count = rows.shape(0),
                               .inputs = inputs, .outputs = outputs, .packed = packed.data(),
                               .bias = bias ? bias->data() : nullptr, .output = output.data()};
    const nb::gil_scoped_release released;
    rm_grpc::multiply(call, threads, instructions);
}

rm_grpc::Recipe recipe_of(const std::string& words, bool nfc, bool ignore_merges, bool prepend_space,
                          std::vector<std::pair<std::string, TokenId>> vocabulary,
                          std::vector<std::pair<std::string, std::string>> merges,
                          const std::vector<GivenToken>& added) {
    rm_grpc::Recipe recipe{.words = rm_grpc::words_named(words),
                           .nfc = nfc,
                           .ignore_merges = ignore_merges,
                           .prepend_space = prepend_space,
                           .vocabulary = std::move(vocabulary),
                           .merges = std::move(merges),
                           .added = {}};
    for (const auto& [text, id, normalized, left, right] : added) recipe.added.push_back({text, id, normalized, left, right});
    return recipe;
}

}  // namespace

NB_MODULE(_core, module) {
    nb::class_<rm_grpc::Encoder>(module, "Encoder")
        .def(
            "__init__",
            [](rm_grpc::Encoder* self, const std::string& words, bool nfc, bool ignore_merges, bool prepend_space,
               std::vector<std::pair<std::string, TokenId>> vocabulary,
               std::vector<std::pair<std::string, std::string>> merges,
               const std::vector<GivenToken>& added) {
                const auto recipe = recipe_of(words, nfc, ignore_merges, prepend_space, std::move(vocabulary),
                                              std::move(merges), added);
                const nb::gil_scoped_release released;
                new (self) rm_grpc::Encoder(recipe);
            },
            nb::kw_only(), "words"_a, "nfc"_a, "ignore_merges"_a, "prepend_space"_a, "vocabulary"_a, "merges"_a, "added"_a)
        .def("encode", &encode, "texts"_a, nb::kw_only(), "plain"_a = false, "instructions"_a = nb::none())
        .def("lengths", &lengths_of);
    module.def("is_nfc", [](std::string_view text) { return rm_grpc::is_nfc(text); }, "text"_a);
    module.def("order_by_ids", &order_by_ids, "conversations"_a);
    module.def("instructions", [] {
        std::vector<std::string> names;
        for (const auto& one : rm_grpc::instructions()) names.emplace_back(one.name);
        return names;
    });
    module.def("attend", &attend, "queries"_a, "sources"_a, "runs"_a, "path"_a, nb::kw_only(), "scale"_a, "output"_a,
               "threads"_a = 1, "instructions"_a = "");
    module.def("pack_weights", &pack_weights, "weights"_a, "threads"_a = 1);
    module.def("linear", &linear, "rows"_a, "packed"_a, "bias"_a = nb::none(), nb::kw_only(), "output"_a, "threads"_a = 1,
               "instructions"_a = "");
    module.def("tile_instructions", [] {
        std::vector<std::string> names;
        for (const auto& one : rm_grpc::tiles()) names.emplace_back(one.name);
        return names;
    });
    module.attr("unicode_tables") = std::string(rm_grpc::unicode::kTablesVersion);
}
