"""Values survive the trip through protobuf, and what cannot is an error, never a different value."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_grpc import convert, errors
from rm_grpc.types import (
    Activation,
    ControlTokens,
    Conversation,
    ForeignMarkers,
    Item,
    Limits,
    Message,
    ModelInfo,
    Score,
    ScoreOptions,
    StepScore,
    Timing,
    TokenIds,
    Tokenization,
    TokenizeResult,
    ToolCall,
)
from rm_grpc.v1 import conversation_pb2, score_pb2

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
calls = st.builds(ToolCall, name=texts, arguments=texts, id=texts)
contents = texts | st.lists(texts, min_size=2, max_size=4).map(tuple)
messages = st.builds(
    Message,
    role=texts,
    content=contents,
    name=texts,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    tool_call_id=texts,
    reasoning_content=texts,
)
conversations = st.builds(Conversation, messages=st.lists(messages, max_size=3).map(tuple), tools=texts)
ids = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9).map(tuple)
inputs = st.none() | texts | conversations | st.builds(TokenIds, ids=ids, tokenizer_digest=texts)
numbers = st.floats(-1e9, 1e9, width=32)
metadata = st.dictionaries(texts, texts | st.booleans() | st.floats(-1e9, 1e9), max_size=3)
timeouts = st.none() | st.integers(0, 10**12).map(lambda ns: ns / 1e9)
items = st.builds(Item, id=texts, input=inputs, timeout=timeouts, group=texts, metadata=metadata)


@given(items)
def test_items(item: Item) -> None:
    back = convert.item_from_proto(conversation_pb2.Item.FromString(convert.item_to_proto(item).SerializeToString()))
    assert (back.id, back.group, back.metadata) == (item.id, item.group, item.metadata)
    assert back.timeout == pytest.approx(item.timeout, abs=1e-9) if item.timeout is not None else back.timeout is None
    if isinstance(back.input, TokenIds):
        back = replace(back, input=replace(back.input, ids=tuple(back.input.ids)))
    assert back.input == item.input


@given(
    st.builds(
        Score,
        score=numbers,
        raw_score=numbers,
        model_digest=texts,
        token_count=st.integers(0, 2**31 - 1),
        activation=st.sampled_from(Activation),
        truncated=st.booleans(),
        shared_prefix_tokens=st.integers(0, 2**31 - 1),
        attributes=st.dictionaries(texts, numbers, max_size=3),
        steps=st.lists(st.builds(StepScore, numbers, *[st.integers(0, 99)] * 3), max_size=3).map(tuple),
        timing=st.builds(Timing, *[st.integers(0, 10**12).map(lambda ns: ns / 1e9)] * 5),
    )
)
def test_scores(score: Score) -> None:
    proto = score_pb2.ItemResult.FromString(convert.result_to_proto("a", score).SerializeToString())
    back = convert.result_from_proto(proto, 4)
    assert back.index == 4
    assert back.id == "a"
    assert back.score == score


def test_the_raw_score_is_a_float32_bit_for_bit() -> None:
    for bits in (0x3F800001, 0x80000001, 0x7F7FFFFF):
        value = struct.unpack("<f", struct.pack("<I", bits))[0]
        assert convert.score_from_proto(convert.score_to_proto(Score(value, value, "", 1))).raw_score == value


def test_an_outcome_of_neither_kind_is_an_error() -> None:
    result = convert.result_from_proto(score_pb2.ItemResult(id="a"), 0)
    assert isinstance(result.error, errors.InternalError)
    with pytest.raises(errors.InternalError):
        _ = result.score


@pytest.mark.parametrize("control", ControlTokens)
@pytest.mark.parametrize("foreign", ForeignMarkers)
@pytest.mark.parametrize("activation", Activation)
def test_options(control: ControlTokens, foreign: ForeignMarkers, activation: Activation) -> None:
    options = ScoreOptions(control, foreign, activation)
    assert convert.options_from_proto(convert.options_to_proto(options)) == options


def test_options_default_to_the_careful_ones() -> None:
    assert convert.options_from_proto(score_pb2.ScoreOptions()) == ScoreOptions()


@pytest.mark.parametrize("field", ["control_tokens", "foreign_markers", "activation"])
def test_an_unknown_option_is_refused(field: str) -> None:
    proto = score_pb2.ScoreOptions(**{field: 99})
    with pytest.raises(errors.InvalidRequestError, match="99") as caught:
        convert.options_from_proto(proto)
    assert caught.value.field == f"options.{field}"


def test_model_info() -> None:
    info = ModelInfo(
        **{name: name + "!" for name in convert._INFO_TEXTS},
        attribute_names=("a", "b"),
        notes=("n",),
        limits=Limits(1, 2, 3, 4),
    )
    assert convert.model_info_from_proto(convert.model_info_to_proto(info)) == info
    from dataclasses import fields

    assert {field.name for field in fields(ModelInfo)} == {*convert._INFO_TEXTS, "attribute_names", "notes", "limits"}


def test_tokenize_results() -> None:
    read = Tokenization("text", (1, 2), 1, ("<a>",), ("<b>",), truncated=True, read_positions=(1,))
    for result in (
        TokenizeResult("x", read, None),
        TokenizeResult("x", None, errors.NoMessagesError("m", field="f")),
        TokenizeResult("x", read, errors.ControlTokensError("m")),
    ):
        back = convert.tokenize_result_from_proto(convert.tokenize_result_to_proto(result))
        assert (back.id, back.tokenization) == (result.id, result.tokenization)
        assert type(back.error) is type(result.error)


@pytest.mark.parametrize(
    "item",
    [
        Item("a", "lone \ud800 surrogate"),
        Item("a", Conversation((Message("user", "\udfff"),))),
        Item("a", TokenIds((2**31,), "d")),
        Item("a", "x", timeout=-1.0),
        Item("a", "x", timeout=math.nan),
        Item("a", "x", metadata={"a": object()}),
    ],
)
def test_what_cannot_be_sent(item: Item) -> None:
    with pytest.raises(errors.InvalidRequestError, match="cannot be sent"):
        convert.item_to_proto(item)


def test_ids_are_little_endian() -> None:
    assert convert.ids_to_bytes((1, -2)) == b"\x01\x00\x00\x00\xfe\xff\xff\xff"
    with pytest.raises(errors.TokenIdError, match="5 bytes"):
        convert.ids_from_bytes(b"12345")


def test_a_part_without_text_is_refused() -> None:
    message = conversation_pb2.Message(role="user", content=[{"text": "a"}, {}])
    proto = conversation_pb2.Item(id="a", conversation={"messages": [message]})
    with pytest.raises(errors.UnsupportedContentError) as caught:
        convert.item_from_proto(proto)
    assert caught.value.field == "conversation.messages[0].content[1]"


def test_openai_messages() -> None:
    raw: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "n"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "r", "tool_call_id": "1"},
    ]
    assert Conversation.from_openai(raw).messages == (
        Message("user", ("a", "b"), name="n"),
        Message("assistant", "", tool_calls=(ToolCall("f", "{}", "1"),)),
        Message("tool", "r", tool_call_id="1"),
    )
    assert Message("user", ("a", "b")).text == "ab"


@pytest.mark.parametrize(
    ("raw", "field", "error"),
    [
        ("text", "messages", errors.InvalidRequestError),
        ([3], "messages[0]", errors.InvalidRequestError),
        ([{"content": "x"}], "messages[0].role", errors.InvalidRequestError),
        ([{"role": "user", "content": 3}], "messages[0].content", errors.UnsupportedContentError),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]", errors.UnsupportedContentError),
        ([{"role": "user", "content": [7]}], "messages[0].content[0]", errors.UnsupportedContentError),
        ([{"role": "user", "content": "", "name": 3}], "messages[0].name", errors.InvalidRequestError),
        ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0]", errors.InvalidRequestError),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}],
            "messages[0].tool_calls[0].function.arguments",
            errors.InvalidRequestError,
        ),
    ],
)
def test_messages_of_another_shape(raw: Any, field: str, error: type[errors.RewardError]) -> None:
    with pytest.raises(error) as caught:
        Conversation.from_openai(raw)
    assert caught.value.field == field


def test_an_activation_of_a_newer_server_stays_a_number() -> None:
    score = convert.score_from_proto(score_pb2.Score(score=0.5, raw_score=1.0, activation=77))
    assert score.activation == 77
    assert convert.score_to_proto(score).activation == 77
