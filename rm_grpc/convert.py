"""The one table between protobuf messages and values. Every other module speaks in `types`."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeVar, cast

from google.protobuf import duration_pb2, json_format
from google.protobuf.unknown_fields import UnknownFieldSet

from rm_grpc import errors
from rm_grpc.types import (
    Activation,
    ControlTokens,
    Conversation,
    ForeignMarkers,
    Input,
    Item,
    Limits,
    Message,
    ModelInfo,
    Result,
    Score,
    ScoreOptions,
    SpecialTokens,
    StepScore,
    Timing,
    TokenIds,
    Tokenization,
    TokenizeResult,
    ToolCall,
)
from rm_grpc.v1 import conversation_pb2, model_pb2, reward_service_pb2, score_pb2

_ID_BYTES = 4
_E = TypeVar("_E", bound=Enum)


# --- items ------------------------------------------------------------------------------------------------------------


def item_to_proto(item: Item) -> conversation_pb2.Item:
    """An item as a message.

    Raises:
        InvalidRequestError: a value that protobuf cannot hold; its field names the place.
    """
    try:
        proto = conversation_pb2.Item(id=item.id, group=item.group)
        if isinstance(item.input, Conversation):
            proto.conversation.CopyFrom(_conversation_to_proto(item.input))
        elif isinstance(item.input, TokenIds):
            proto.tokens.CopyFrom(
                conversation_pb2.TokenIds(ids=ids_to_bytes(item.input.ids), tokenizer_digest=item.input.tokenizer_digest)
            )
        elif isinstance(item.input, str):
            proto.text = item.input
        if item.timeout is not None:
            proto.timeout.CopyFrom(duration(item.timeout))
        if item.metadata:
            json_format.ParseDict(dict(item.metadata), proto.metadata)
    except (TypeError, ValueError, OverflowError, json_format.ParseError) as error:
        # UnicodeEncodeError (lone surrogates) is a ValueError.
        raise errors.InvalidRequestError(f"cannot be sent: {error}") from error
    return proto


def item_from_proto(proto: conversation_pb2.Item) -> Item:
    """An item as it came; what is wrong with its content is for validation to say.

    Raises:
        UnsupportedContentError: a part of a message that holds no text; its field names the place.
        TokenIdError: token ids that are not whole four-byte integers.
        InvalidRequestError: metadata that is no JSON.
    """
    return Item(
        id=proto.id,
        input=_input_from_proto(proto),
        timeout=seconds(proto.timeout) if proto.HasField("timeout") else None,
        group=proto.group,
        metadata=_metadata_from_proto(proto) if proto.HasField("metadata") else {},
    )


def _metadata_from_proto(proto: conversation_pb2.Item) -> dict[str, Any]:
    try:
        return json_format.MessageToDict(proto.metadata)
    except ValueError as error:  # NaN and infinity, which JSON has not
        raise errors.InvalidRequestError(f"cannot be read: {error}", field="metadata") from error


def _input_from_proto(proto: conversation_pb2.Item) -> Input | None:
    kind = proto.WhichOneof("input")
    if kind == "conversation":
        messages = proto.conversation.messages
        return Conversation(
            tuple(_message_from_proto(message, at) for at, message in enumerate(messages)), proto.conversation.tools_json
        )
    if kind == "text":
        return proto.text
    if kind == "tokens":
        return TokenIds(ids_from_bytes(proto.tokens.ids), proto.tokens.tokenizer_digest)
    return None


def _conversation_to_proto(conversation: Conversation) -> conversation_pb2.Conversation:
    return conversation_pb2.Conversation(
        messages=[_message_to_proto(message) for message in conversation.messages], tools_json=conversation.tools
    )


def _message_to_proto(message: Message) -> conversation_pb2.Message:
    texts = (message.content,) if isinstance(message.content, str) else message.content
    return conversation_pb2.Message(
        role=message.role,
        content=[conversation_pb2.ContentPart(text=text) for text in texts],
        name=message.name,
        tool_calls=[
            conversation_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments) for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
        reasoning_content=message.reasoning_content,
    )


def _message_from_proto(proto: conversation_pb2.Message, at: int) -> Message:
    for place, part in enumerate(proto.content):
        if part.WhichOneof("part") != "text":
            where = f"conversation.messages[{at}].content[{place}]"
            raise errors.UnsupportedContentError("only text parts can be scored; this part holds none", field=where)
    texts = tuple(part.text for part in proto.content)
    return Message(
        role=proto.role,
        content=texts if len(texts) > 1 else "".join(texts),
        name=proto.name,
        tool_calls=tuple(ToolCall(name=call.name, arguments=call.arguments_json, id=call.id) for call in proto.tool_calls),
        tool_call_id=proto.tool_call_id,
        reasoning_content=proto.reasoning_content,
    )


def ids_to_bytes(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian signed 32-bit integers."""
    packed = array("i", ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def ids_from_bytes(raw: bytes) -> array[int]:
    """The reverse of `ids_to_bytes`, as an array of C integers: a conversation has thousands, and nobody looks at each."""
    if len(raw) % _ID_BYTES:
        raise errors.TokenIdError(f"{len(raw)} bytes are no whole number of 4-byte integers", field="tokens.ids")
    packed = array("i")
    packed.frombytes(raw)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed


# --- options and scores -----------------------------------------------------------------------------------------------

_CONTROL = {score_pb2.CONTROL_TOKENS_AS_TEXT: ControlTokens.AS_TEXT, score_pb2.CONTROL_TOKENS_ALLOW: ControlTokens.ALLOW}
_CONTROL |= dict.fromkeys((score_pb2.CONTROL_TOKENS_UNSPECIFIED, score_pb2.CONTROL_TOKENS_REFUSE), ControlTokens.REFUSE)
_FOREIGN = {score_pb2.FOREIGN_MARKERS_ALLOW: ForeignMarkers.ALLOW}
_FOREIGN |= dict.fromkeys((score_pb2.FOREIGN_MARKERS_UNSPECIFIED, score_pb2.FOREIGN_MARKERS_REFUSE), ForeignMarkers.REFUSE)
_ACTIVATION = {score_pb2.ACTIVATION_SIGMOID: Activation.SIGMOID}
_ACTIVATION |= dict.fromkeys((score_pb2.ACTIVATION_UNSPECIFIED, score_pb2.ACTIVATION_NONE), Activation.NONE)

_SPECIAL = {score_pb2.SPECIAL_TOKENS_ADD: SpecialTokens.ADD}
_SPECIAL |= dict.fromkeys((score_pb2.SPECIAL_TOKENS_UNSPECIFIED, score_pb2.SPECIAL_TOKENS_AS_IS), SpecialTokens.AS_IS)

_CONTROL_TO = {value: number for number, value in _CONTROL.items()}
_FOREIGN_TO = {value: number for number, value in _FOREIGN.items()}
_ACTIVATION_TO = {value: number for number, value in _ACTIVATION.items()}
_SPECIAL_TO = {value: number for number, value in _SPECIAL.items()}


def options_to_proto(options: ScoreOptions) -> score_pb2.ScoreOptions:
    """Options as a message."""
    return score_pb2.ScoreOptions(
        control_tokens=_CONTROL_TO[options.control_tokens],
        foreign_markers=_FOREIGN_TO[options.foreign_markers],
        activation=_ACTIVATION_TO[options.activation],
        special_tokens=_SPECIAL_TO[options.special_tokens],
    )


def options_from_proto(proto: score_pb2.ScoreOptions) -> ScoreOptions:
    """Options as values; what this version does not know is refused, for it could change the number.

    Raises:
        InvalidRequestError: an unknown field, or an unknown number.
    """
    if len(unknown := UnknownFieldSet(proto)):
        told = f"this server does not know the option of field number {unknown[0].field_number}; a newer one may"
        raise errors.InvalidRequestError(told, field="options")
    return ScoreOptions(
        control_tokens=_known(_CONTROL, proto.control_tokens, "options.control_tokens"),
        foreign_markers=_known(_FOREIGN, proto.foreign_markers, "options.foreign_markers"),
        activation=_known(_ACTIVATION, proto.activation, "options.activation"),
        special_tokens=_known(_SPECIAL, proto.special_tokens, "options.special_tokens"),
    )


def _known(table: dict[Any, _E], number: int, field: str) -> _E:
    if number not in table:
        raise errors.InvalidRequestError(f"this server does not know the value {number}", field=field)
    return table[number]


def _activation_to_proto(activation: Activation | int) -> score_pb2.Activation.ValueType:
    if isinstance(activation, Activation):
        return _ACTIVATION_TO[activation]
    return cast("score_pb2.Activation.ValueType", activation)


def score_to_proto(score: Score) -> score_pb2.Score:
    """A score as a message."""
    proto = score_pb2.Score()
    _fill_score(proto, score)
    return proto


def _fill_score(proto: score_pb2.Score, score: Score) -> None:
    """Writes where the message lies: messages that are made apart are copied into one another, which takes twice as long."""
    proto.raw_score = score.raw_score
    proto.score = score.score
    proto.activation = _activation_to_proto(score.activation)
    proto.token_count = score.token_count
    proto.truncated = score.truncated
    proto.shared_prefix_tokens = score.shared_prefix_tokens
    proto.model_digest = score.model_digest
    for name, value in score.attributes.items():
        proto.attributes.add(name=name, value=value)
    for step in score.steps:
        proto.steps.add(score=step.score, token_offset=step.token_offset, char_start=step.char_start, char_end=step.char_end)
    timing, times = proto.timing, score.timing
    _fill_duration(timing.text_queue, times.text_queue)
    _fill_duration(timing.render, times.render)
    _fill_duration(timing.encode, times.encode)
    _fill_duration(timing.queue, times.queue)
    _fill_duration(timing.forward, times.forward)


def score_from_proto(proto: score_pb2.Score) -> Score:
    """A score as a value."""
    timing = proto.timing
    return Score(
        score=proto.score,
        raw_score=proto.raw_score,
        model_digest=proto.model_digest,
        token_count=proto.token_count,
        activation=_ACTIVATION.get(proto.activation, proto.activation),
        truncated=proto.truncated,
        shared_prefix_tokens=proto.shared_prefix_tokens,
        attributes={attribute.name: attribute.value for attribute in proto.attributes},
        steps=tuple(StepScore(step.score, step.token_offset, step.char_start, step.char_end) for step in proto.steps),
        timing=Timing(
            text_queue=seconds(timing.text_queue),
            render=seconds(timing.render),
            encode=seconds(timing.encode),
            queue=seconds(timing.queue),
            forward=seconds(timing.forward),
        ),
    )


def result_to_proto(item_id: str, outcome: Score | errors.RewardError) -> score_pb2.ItemResult:
    """An outcome as a message."""
    proto = score_pb2.ItemResult()
    fill_result(proto, item_id, outcome)
    return proto


def fill_result(proto: score_pb2.ItemResult, item_id: str, outcome: Score | errors.RewardError) -> None:
    """The same into an empty message that is there already."""
    proto.id = item_id
    if isinstance(outcome, errors.RewardError):
        proto.error.CopyFrom(errors.to_status(outcome))
    else:
        _fill_score(proto.score, outcome)


def result_from_proto(proto: score_pb2.ItemResult, index: int) -> Result:
    """An outcome as a value. A result that holds neither score nor error is an error, never a number."""
    kind = proto.WhichOneof("outcome")
    outcome: Score | errors.RewardError
    if kind == "score":
        outcome = score_from_proto(proto.score)
    elif kind == "error":
        outcome = errors.from_status(proto.error)
    else:
        outcome = errors.InternalError("the server answered with neither a score nor an error")
    return Result(proto.id, index, outcome)


# --- models -----------------------------------------------------------------------------------------------------------

_INFO_TEXTS = (
    "name",
    "source",
    "revision",
    "scorer_kind",
    "architecture",
    "dtype",
    "device",
    "model_digest",
    "weights_digest",
    "tokenizer_digest",
    "template_digest",
    "encoder",
    "settings_json",
    "settings_source",
)


def model_info_to_proto(info: ModelInfo) -> model_pb2.ModelInfo:
    """A model's description as a message."""
    return model_pb2.ModelInfo(
        **{name: getattr(info, name) for name in _INFO_TEXTS},
        attribute_names=info.attribute_names,
        notes=info.notes,
        limits=model_pb2.Limits(
            max_length=info.limits.max_length,
            max_message_bytes=info.limits.max_message_bytes,
            window_items=info.limits.window_items,
            window_bytes=info.limits.window_bytes,
        ),
    )


def model_info_from_proto(proto: model_pb2.ModelInfo) -> ModelInfo:
    """A model's description as a value."""
    limits = proto.limits
    return ModelInfo(
        **{name: getattr(proto, name) for name in _INFO_TEXTS},
        attribute_names=tuple(proto.attribute_names),
        notes=tuple(proto.notes),
        limits=Limits(limits.max_length, limits.max_message_bytes, limits.window_items, limits.window_bytes),
    )


def tokenize_result_to_proto(result: TokenizeResult) -> reward_service_pb2.TokenizeResult:
    """What would be read, as a message."""
    proto = reward_service_pb2.TokenizeResult(id=result.id)
    if result.error is not None:
        proto.error.CopyFrom(errors.to_status(result.error))
    if (found := result.tokenization) is not None:
        proto.tokenization.CopyFrom(
            reward_service_pb2.Tokenization(
                rendered_text=found.rendered_text,
                ids=found.ids,
                bos_count=found.bos_count,
                control_tokens_in_content=found.control_tokens_in_content,
                foreign_markers_in_content=found.foreign_markers_in_content,
                truncated=found.truncated,
                read_positions=found.read_positions,
            )
        )
    return proto


def tokenize_result_from_proto(proto: reward_service_pb2.TokenizeResult) -> TokenizeResult:
    """What would be read, as a value."""
    found = proto.tokenization
    tokenization = Tokenization(
        rendered_text=found.rendered_text,
        ids=tuple(found.ids),
        bos_count=found.bos_count,
        control_tokens_in_content=tuple(found.control_tokens_in_content),
        foreign_markers_in_content=tuple(found.foreign_markers_in_content),
        truncated=found.truncated,
        read_positions=tuple(found.read_positions),
    )
    return TokenizeResult(
        id=proto.id,
        tokenization=tokenization if proto.HasField("tokenization") else None,
        error=errors.from_status(proto.error) if proto.HasField("error") else None,
    )


def duration(value: float) -> duration_pb2.Duration:
    """Seconds as a message."""
    proto = duration_pb2.Duration()
    _fill_duration(proto, value)
    return proto


def _fill_duration(proto: duration_pb2.Duration, value: float) -> None:
    if 0 <= value < 0.9:  # nearly all of them, and there are several in each result
        proto.nanos = round(value * 1e9)
        return
    whole, nanos = divmod(round(value * 1e9), 1_000_000_000)
    if value < 0:
        raise ValueError(f"a duration must not be negative, this one is {value} s")
    proto.seconds, proto.nanos = whole, nanos


def seconds(proto: duration_pb2.Duration) -> float:
    """A message as seconds."""
    return (proto.seconds * 1_000_000_000 + proto.nanos) / 1e9
