"""The values that travel: frozen, typed, and free of protobuf.

Server, client and external modules speak in these; `convert` is the one place that turns them into messages and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from rm_grpc.errors import InvalidRequestError, RewardError, UnsupportedContentError

ROLES = ("system", "developer", "user", "assistant", "tool")
"""The roles that a message may have; a model's template may refuse some of them."""


class ControlTokens(Enum):
    """What to do with a model's control tokens inside content."""

    REFUSE = "refuse"
    AS_TEXT = "as_text"
    ALLOW = "allow"


class ForeignMarkers(Enum):
    """What to do with chat markers of another model family inside content."""

    REFUSE = "refuse"
    ALLOW = "allow"


class SpecialTokens(Enum):
    """What is put around text that the caller rendered."""

    AS_IS = "as_is"
    ADD = "add"


class Activation(Enum):
    """A function applied to the raw score."""

    NONE = "none"
    SIGMOID = "sigmoid"


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """How the items of one request or stream are scored."""

    control_tokens: ControlTokens = ControlTokens.REFUSE
    foreign_markers: ForeignMarkers = ForeignMarkers.REFUSE
    activation: Activation = Activation.NONE
    special_tokens: SpecialTokens = SpecialTokens.AS_IS


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by the assistant; `arguments` is JSON text."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. Content that came in pieces is kept in pieces and joined with nothing between them."""

    role: str
    content: str | tuple[str, ...] = ""
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning_content: str = ""

    @property
    def text(self) -> str:
        """The whole content."""
        return self.content if isinstance(self.content, str) else "".join(self.content)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Chat messages ending with the response to score; `tools` is a JSON array of JSON schemas, or empty."""

    messages: tuple[Message, ...]
    tools: str = ""

    @classmethod
    def from_openai(cls, messages: Sequence[Mapping[str, Any]], *, tools: str = "") -> Conversation:
        """Reads messages in the OpenAI shape (`[{"role": ..., "content": ...}, ...]`).

        Raises:
            InvalidRequestError: a message is not of that shape; its field names the place.
        """
        if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence):
            raise InvalidRequestError(f"messages must be a list of messages, not {type(messages).__name__}", field="messages")
        return cls(tuple(_message(raw, f"messages[{at}]") for at, raw in enumerate(messages)), tools)


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A conversation that the caller encoded with the tokenizer of this digest (see `ModelInfo.tokenizer_digest`)."""

    ids: Sequence[int]
    tokenizer_digest: str


Input: TypeAlias = "Conversation | str | TokenIds"
"""What can be scored: chat messages, rendered text, or token ids."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to score.

    Attributes:
        id: unique among the items in flight on a stream.
        input: what is scored; None where the wire held nothing, which validation refuses.
        timeout: seconds that the answer is worth waiting for, or None for ever.
        group: items of one group are likely to share a prompt; a hint that never changes a score.
        metadata: whatever a scorer may need beside the conversation. Not rendered.
    """

    id: str
    input: Input | None
    timeout: float | None = None
    group: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]], *, id: str = "", **fields: Any) -> Item:  # noqa: A002 - the field's name
        """An item around messages in the OpenAI shape; raises as `Conversation.from_openai`."""
        return cls(id, Conversation.from_openai(messages), **fields)


@dataclass(frozen=True, slots=True)
class StepScore:
    """The score of one step of a response, with the token it was read at and the characters it spans."""

    score: float
    token_offset: int
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a scorer says of one conversation: the raw score before any activation, and what else its kind gives."""

    raw_score: float
    attributes: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[StepScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that an item spent in each stage."""

    text_queue: float = 0.0
    render: float = 0.0
    encode: float = 0.0
    queue: float = 0.0
    forward: float = 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """What the service returns for a scored item.

    Attributes:
        score: the number to use: `raw_score` after the activation that was asked for.
        raw_score: the model's number before any activation, float32.
        model_digest: digest of weights, tokenizer, template and settings.
        token_count: how many tokens the model read.
        activation: what was applied; a number on the wire that this version has no name for stays a number.
        truncated: whether turns were dropped to make it fit.
    """

    score: float
    raw_score: float
    model_digest: str
    token_count: int
    activation: Activation | int = Activation.NONE
    truncated: bool = False
    shared_prefix_tokens: int = 0
    attributes: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[StepScore, ...] = ()
    timing: Timing = Timing()


@dataclass(frozen=True, slots=True)
class Result:
    """The one outcome of an item: a score or a typed error.

    Attributes:
        id: the item's id.
        index: the item's position in what the caller gave.
        outcome: the score, or the error as an exception that was not raised.
    """

    id: str
    index: int
    outcome: Score | RewardError

    @property
    def score(self) -> Score:
        """The score; raises the item's error where there is none."""
        if isinstance(self.outcome, RewardError):
            raise self.outcome
        return self.outcome

    @property
    def error(self) -> RewardError | None:
        """The error, or None where the item was scored."""
        return self.outcome if isinstance(self.outcome, RewardError) else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes from one caller: tokens, bytes, items."""

    max_length: int = 0
    max_message_bytes: int = 0
    window_items: int = 0
    window_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A served model, with all that its numbers depend on; the fields are those of the contract's ModelInfo."""

    name: str
    source: str = ""
    revision: str = ""
    scorer_kind: str = ""
    architecture: str = ""
    attribute_names: tuple[str, ...] = ()
    dtype: str = ""
    device: str = ""
    model_digest: str = ""
    weights_digest: str = ""
    tokenizer_digest: str = ""
    template_digest: str = ""
    encoder: str = ""
    settings_json: str = ""
    settings_source: str = ""
    notes: tuple[str, ...] = ()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Tokenization:
    """What a model would read for one item, with what is remarkable about it."""

    rendered_text: str
    ids: tuple[int, ...]
    bos_count: int
    control_tokens_in_content: tuple[str, ...] = ()
    foreign_markers_in_content: tuple[str, ...] = ()
    truncated: bool = False
    read_positions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenizeResult:
    """The answer for one item: what would be read, the error that scoring would give, or both."""

    id: str
    tokenization: Tokenization | None
    error: RewardError | None


_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names that callers have for the reasoning before the content."""


def _message(raw: Mapping[str, Any], where: str) -> Message:
    if isinstance(raw, Message):
        return raw
    if not isinstance(raw, Mapping):
        raise InvalidRequestError(f"a message must be an object, not {type(raw).__name__}", field=where)
    role = raw.get("role")
    if not isinstance(role, str):
        raise InvalidRequestError("a message needs a role, as a string", field=f"{where}.role")
    if len(raw) == 2 and isinstance(content := raw.get("content"), str):
        return Message(role, content)  # as nearly all are; names of places are only made where they may be told
    return Message(
        role=role,
        content=_content(raw.get("content"), f"{where}.content"),
        name=_text(raw, "name", where),
        tool_calls=_tool_calls(raw.get("tool_calls"), f"{where}.tool_calls"),
        tool_call_id=_text(raw, "tool_call_id", where),
        reasoning_content=next(filter(None, (_text(raw, key, where) for key in _REASONING)), ""),
    )


def _text(raw: Mapping[str, Any], key: str, where: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequestError(f"must be a string, not {type(value).__name__}", field=f"{where}.{key}")
    return value


def _content(raw: Any, where: str) -> str | tuple[str, ...]:
    if raw is None:
        return ""
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, Sequence):
        raise UnsupportedContentError(f"must be a string or a list of text parts, not {type(raw).__name__}", field=where)
    return tuple(_part(part, f"{where}[{at}]") for at, part in enumerate(raw))


def _part(part: Any, where: str) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        raise UnsupportedContentError(f"only text parts can be scored, this one is {kind!r}", field=where)
    return text


def _tool_calls(raw: Any, where: str) -> tuple[ToolCall, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, (list, tuple)):
        raise InvalidRequestError(f"must be a list of tool calls, not {type(raw).__name__}", field=where)
    return tuple(_tool_call(call, f"{where}[{at}]") for at, call in enumerate(raw))


def _tool_call(raw: Any, where: str) -> ToolCall:
    function = raw.get("function") if isinstance(raw, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidRequestError('a tool call needs {"function": {"name": ..., "arguments": ...}}', field=where)
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str):
        raise InvalidRequestError("arguments must be JSON text, as in the OpenAI shape", field=f"{where}.function.arguments")
    return ToolCall(name=function["name"], arguments=arguments, id=_text(raw, "id", where))
