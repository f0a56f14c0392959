// What can go wrong: one value for the error of an item, and the exceptions that hold it.
#pragma once

#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "rm_grpc_client/seconds.h"

namespace rm_grpc {

/// The status codes of gRPC, without OK.
enum class Code : int {
    cancelled = 1,
    unknown = 2,
    invalid_argument = 3,
    deadline_exceeded = 4,
    not_found = 5,
    already_exists = 6,
    permission_denied = 7,
    resource_exhausted = 8,
    failed_precondition = 9,
    aborted = 10,
    out_of_range = 11,
    unimplemented = 12,
    internal = 13,
    unavailable = 14,
    data_loss = 15,
    unauthenticated = 16,
};

/// The code as gRPC writes it, for example INVALID_ARGUMENT.
std::string_view name(Code code) noexcept;

/// The kinds of failure, as on the wire. A server may know more of them: those count as their code.
namespace reason {

inline constexpr std::string_view invalid_request = "INVALID_REQUEST";
inline constexpr std::string_view empty_batch = "EMPTY_BATCH";
inline constexpr std::string_view no_input = "NO_INPUT";
inline constexpr std::string_view no_messages = "NO_MESSAGES";
inline constexpr std::string_view no_response = "NO_RESPONSE";
inline constexpr std::string_view no_steps = "NO_STEPS";
inline constexpr std::string_view unknown_role = "UNKNOWN_ROLE";
inline constexpr std::string_view unsupported_content = "UNSUPPORTED_CONTENT";
inline constexpr std::string_view template_refused = "TEMPLATE_REFUSED";
inline constexpr std::string_view conversation_too_long = "CONVERSATION_TOO_LONG";
inline constexpr std::string_view foreign_chat_markers = "FOREIGN_CHAT_MARKERS";
inline constexpr std::string_view control_tokens_in_content = "CONTROL_TOKENS_IN_CONTENT";
inline constexpr std::string_view token_id_out_of_range = "TOKEN_ID_OUT_OF_RANGE";
inline constexpr std::string_view tokenizer_mismatch = "TOKENIZER_MISMATCH";
inline constexpr std::string_view stream_protocol = "STREAM_PROTOCOL";
inline constexpr std::string_view model_not_found = "MODEL_NOT_FOUND";
inline constexpr std::string_view duplicate_id = "DUPLICATE_ID";
inline constexpr std::string_view resource_exhausted = "RESOURCE_EXHAUSTED";
inline constexpr std::string_view overloaded = "OVERLOADED";
inline constexpr std::string_view window_exceeded = "WINDOW_EXCEEDED";
inline constexpr std::string_view message_too_large = "MESSAGE_TOO_LARGE";
inline constexpr std::string_view deadline_exceeded = "DEADLINE_EXCEEDED";
inline constexpr std::string_view cancelled = "CANCELLED";
inline constexpr std::string_view unavailable = "UNAVAILABLE";
inline constexpr std::string_view draining = "DRAINING";
inline constexpr std::string_view unauthenticated = "UNAUTHENTICATED";
inline constexpr std::string_view internal = "INTERNAL";
inline constexpr std::string_view score_not_finite = "SCORE_NOT_FINITE";
inline constexpr std::string_view scorer_failed = "SCORER_FAILED";
inline constexpr std::string_view unparsable_verdict = "UNPARSABLE_VERDICT";
inline constexpr std::string_view quarantined = "QUARANTINED";

}  // namespace reason

/// Why an item has no score, or a call no answer.
struct Error {
    Code code = Code::unknown;
    /// The kind of failure: one of `reason`, or one that a newer server knows.
    std::string reason;
    std::string message;
    /// Path of the field that is at fault, or empty.
    std::string field = {};
    /// After how long another try may succeed; none where it cannot.
    std::optional<Seconds> retry_delay = {};
    /// Further facts.
    std::map<std::string, std::string> metadata = {};
};

/// The error on one line.
std::string describe(const Error& error);

/// A call failed.
class CallError : public std::runtime_error {
  public:
    explicit CallError(Error error);

    const Error& error() const noexcept { return error_; }

  private:
    Error error_;
};

/// A stream failed as a whole: the items that have no result will get none.
class StreamError : public CallError {
  public:
    using CallError::CallError;
};

/// A setting of a client that cannot be.
class SettingsError : public std::invalid_argument {
  public:
    SettingsError(std::string field, const std::string& message);

    /// Name of the member of `Settings`.
    const std::string& field() const noexcept { return field_; }

  private:
    std::string field_;
};

}  // namespace rm_grpc
