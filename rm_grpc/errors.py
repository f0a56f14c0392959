"""The error tree: one class, one gRPC status code, one `ErrorInfo.reason`, and both mappings to `google.rpc.Status`.

Every failure of the service is one of these, on the server, on the wire and in the client. A reason that this version does
not know becomes the class of its code, with the reason kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "rm_grpc"
_MESSAGE_LIMIT = 600


class RewardError(Exception):
    """Any failure of the service; its subclasses say which.

    Attributes:
        code: the gRPC status code; of a class of its own, or any other that a server of a later version gave.
        reason: the stable name of the kind of failure, as on the wire.
        field: path of the field that is at fault, or empty.
        retry_delay: seconds after which a retry may succeed, or None where it cannot.
        metadata: further facts, as strings.
    """

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    reason: str = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        retry_delay: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_delay = retry_delay
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.field, self.retry_delay, self.metadata, self.reason, self.code))

    def within(self, prefix: str) -> RewardError:
        """The same error with its field under `prefix`, for a caller that knows the outer path."""
        path = f"{prefix}.{self.field}" if self.field else prefix
        return self.at(path)

    def at(self, field: str) -> RewardError:
        """The same error of another field, for a caller that knows the value by another name."""
        return _rebuild(type(self), self.message, field, self.retry_delay, self.metadata, self.reason, self.code)

    def of_part(self, name: str) -> RewardError:
        """The same error, of a named part of the answer such as an ensemble's component."""
        metadata = {**self.metadata, "component": name}
        told = f"{name}: {self.message}"
        return _rebuild(type(self), told, self.field, self.retry_delay, metadata, self.reason, self.code)


class InvalidRequestError(RewardError):
    """The request is malformed, or names something that cannot be."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"


class EmptyBatchError(InvalidRequestError):
    """A request without items."""

    reason = "EMPTY_BATCH"


class NoInputError(InvalidRequestError):
    """An item without a conversation, text or token ids, or with an empty one."""

    reason = "NO_INPUT"


class NoMessagesError(InvalidRequestError):
    """A conversation without messages."""

    reason = "NO_MESSAGES"


class NoResponseError(InvalidRequestError):
    """A conversation that does not end with a message of the assistant, so that there is nothing to score."""

    reason = "NO_RESPONSE"


class NoStepsError(InvalidRequestError):
    """A response without steps, for a model that scores steps."""

    reason = "NO_STEPS"


class UnknownRoleError(InvalidRequestError):
    """A role outside `types.ROLES`."""

    reason = "UNKNOWN_ROLE"


class UnsupportedContentError(InvalidRequestError):
    """Content that is not text."""

    reason = "UNSUPPORTED_CONTENT"


class TemplateRefusedError(InvalidRequestError):
    """The model's chat template, or its system-prompt policy, refuses the conversation."""

    reason = "TEMPLATE_REFUSED"


class ConversationTooLongError(InvalidRequestError):
    """More tokens than the model reads."""

    reason = "CONVERSATION_TOO_LONG"


class ForeignMarkersError(InvalidRequestError):
    """Content carries chat markers of another model family: probably rendered once already."""

    reason = "FOREIGN_CHAT_MARKERS"


class ControlTokensError(InvalidRequestError):
    """Content carries the model's own control tokens."""

    reason = "CONTROL_TOKENS_IN_CONTENT"


class TokenIdError(InvalidRequestError):
    """Token ids that are no ids of the vocabulary."""

    reason = "TOKEN_ID_OUT_OF_RANGE"


class TokenizerMismatchError(RewardError):
    """Token ids made by another tokenizer than the model's."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TOKENIZER_MISMATCH"


class StreamProtocolError(InvalidRequestError):
    """A stream whose messages come in the wrong order."""

    reason = "STREAM_PROTOCOL"


class ModelNotFoundError(RewardError):
    """No model of that name is served."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


class DuplicateIdError(RewardError):
    """An item of that id is in flight on the stream already."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "DUPLICATE_ID"


class ResourceExhaustedError(RewardError):
    """A limit of the server was reached."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RESOURCE_EXHAUSTED"


class OverloadedError(ResourceExhaustedError):
    """The server's queue is full; `retry_delay` says when to try again."""

    reason = "OVERLOADED"


class WindowExceededError(ResourceExhaustedError):
    """More in flight on the stream than its window allows."""

    reason = "WINDOW_EXCEEDED"


class MessageTooLargeError(ResourceExhaustedError):
    """A message, or one item alone, is larger than a message may be."""

    reason = "MESSAGE_TOO_LARGE"


class DeadlineExceededError(RewardError):
    """The item's time ran out before it was scored."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class ItemCancelledError(RewardError):
    """The item was taken back."""

    code = grpc.StatusCode.CANCELLED
    reason = "CANCELLED"


class UnavailableError(RewardError):
    """The server cannot be reached, or cannot score now."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"


class DrainingError(UnavailableError):
    """The server is going down and takes nothing new."""

    reason = "DRAINING"


class UnauthenticatedError(RewardError):
    """The caller is not known to the server."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class InternalError(RewardError):
    """A fault of the server."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"


class ScoreNotFiniteError(InternalError):
    """The model gave NaN or infinity."""

    reason = "SCORE_NOT_FINITE"


class ScorerFailedError(InternalError):
    """The forward pass failed."""

    reason = "SCORER_FAILED"


class UnparsableVerdictError(ScorerFailedError):
    """A judge answered, and its answer holds no verdict in the form that was asked for; `metadata` has its end."""

    reason = "UNPARSABLE_VERDICT"


class QuarantinedError(ScorerFailedError):
    """Replicas died while they computed this item, so that it is not tried again."""

    reason = "QUARANTINED"


def _tree(root: type[RewardError]) -> Iterator[type[RewardError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


BY_REASON: dict[str, type[RewardError]] = {cls.reason: cls for cls in _tree(RewardError)}
_BY_CODE: dict[int, type[RewardError]] = {
    cls.code.value[0]: cls
    for cls in (
        RewardError,
        InvalidRequestError,
        ModelNotFoundError,
        DuplicateIdError,
        TokenizerMismatchError,
        ResourceExhaustedError,
        DeadlineExceededError,
        ItemCancelledError,
        UnavailableError,
        UnauthenticatedError,
        InternalError,
    )
}


_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def _rebuild(
    cls: type[RewardError],
    message: str,
    field: str,
    retry_delay: float | None,
    metadata: Mapping[str, str],
    reason: str,
    code: grpc.StatusCode,
) -> RewardError:
    error = cls(message, field=field, retry_delay=retry_delay, metadata=metadata)
    error.reason, error.code = reason, code
    return error


def to_status(error: RewardError) -> status_pb2.Status:
    """The error on the wire; the message is cut so that status and details stay under one kilobyte."""
    status = status_pb2.Status(code=error.code.value[0], message=_cut(error.message, _MESSAGE_LIMIT))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if error.field:
        bad = error_details_pb2.BadRequest()
        bad.field_violations.add(field=_cut(error.field, 100))
        status.details.add().Pack(bad)
    if error.retry_delay is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_delay * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_status(status: status_pb2.Status) -> RewardError:
    """The error that a status tells of."""
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    retry_delay = None
    for detail in status.details:
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            detail.Unpack(retry)
            retry_delay = retry.retry_delay.ToNanoseconds() / 1e9
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            detail.Unpack(bad)
        elif detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    by_code = _BY_CODE.get(status.code, RewardError)
    cls = BY_REASON.get(info.reason, by_code) if info.domain == DOMAIN else by_code
    field = bad.field_violations[0].field if bad.field_violations else ""
    reason, code = info.reason or cls.reason, _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _rebuild(cls, status.message, field, retry_delay, dict(info.metadata), reason, code)


def from_rpc_error(code: grpc.StatusCode, message: str, trailing_metadata: object) -> RewardError:
    """The error that a failed call tells of: its rich status where the server sent one, else the class of its code."""
    for key, value in trailing_metadata if isinstance(trailing_metadata, (list, tuple)) else ():
        if key == "grpc-status-details-bin":
            return from_status(status_pb2.Status.FromString(value))
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:
        return MessageTooLargeError(message)
    error = _BY_CODE.get(code.value[0], RewardError)(message)
    error.code = code
    return error


def _cut(text: str, limit: int) -> str:
    raw = text.encode(errors="replace")
    return raw.decode() if len(raw) <= limit else raw[: limit - 3].decode(errors="ignore") + "..."
