// How items are scored. The numbers are those of the contract.
#pragma once

namespace rm_grpc {

/// What to do with a model's own control tokens inside content.
enum class ControlTokens : int { refuse = 1, as_text = 2, allow = 3 };

/// What to do with chat markers of another model family inside content.
enum class ForeignMarkers : int { refuse = 1, allow = 2 };

/// A function applied to the raw score.
enum class Activation : int { none = 1, sigmoid = 2 };

/// What is put around text that the caller rendered.
enum class SpecialTokens : int { as_is = 1, add = 2 };

/// How every item of a stream is scored; as the server does it where nothing else is said.
struct ScoreOptions {
    ControlTokens control_tokens = ControlTokens::refuse;
    ForeignMarkers foreign_markers = ForeignMarkers::refuse;
    Activation activation = Activation::none;
    SpecialTokens special_tokens = SpecialTokens::as_is;
};

/// The order in which a stream gives results: as they are ready, or as items were sent.
enum class Ordering { completion, submission };

}  // namespace rm_grpc
