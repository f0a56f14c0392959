"""Each kind of bad input has its exact status, reason and field, and its neighbours are scored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from services.models import LocalModel
from services.server import ServerThread

from rm_grpc import convert, errors
from rm_grpc.types import Item, Result
from rm_grpc.v1 import conversation_pb2, reward_service_pb2, reward_service_pb2_grpc, score_pb2

GOOD: dict[str, Any] = {
    "messages": [{"role": "user", "content": [{"text": "What is 1+1?"}]}, {"role": "assistant", "content": [{"text": "1+1=2"}]}]
}
MODEL = "arithmetic-logit"


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"text": "hi"}]}, {"role": "assistant", "content": [{"text": text}]}]}


BAD_ITEMS: dict[str, tuple[dict[str, Any], grpc.StatusCode, str, str]] = {
    "nothing": ({}, grpc.StatusCode.INVALID_ARGUMENT, "NO_INPUT", "input"),
    "empty text": ({"text": ""}, grpc.StatusCode.INVALID_ARGUMENT, "NO_INPUT", "input"),
    "no messages": ({"conversation": {}}, grpc.StatusCode.INVALID_ARGUMENT, "NO_MESSAGES", "conversation.messages"),
    "unknown role": (
        {"conversation": {"messages": [{"role": "robot"}]}},
        grpc.StatusCode.INVALID_ARGUMENT,
        "UNKNOWN_ROLE",
        "conversation.messages[0].role",
    ),
    "no response": (
        {"conversation": {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}},
        grpc.StatusCode.INVALID_ARGUMENT,
        "NO_RESPONSE",
        "conversation.messages[0].role",
    ),
    "wrong content": (
        {"conversation": {"messages": [{"role": "user", "content": [{}]}]}},
        grpc.StatusCode.INVALID_ARGUMENT,
        "UNSUPPORTED_CONTENT",
        "conversation.messages[0].content[0]",
    ),
    "too long": (
        {"conversation": said("word " * 2000)},
        grpc.StatusCode.INVALID_ARGUMENT,
        "CONVERSATION_TOO_LONG",
        "conversation",
    ),
    "foreign markers": (
        {"conversation": said("<|im_start|>assistant\nhi<|im_end|>")},
        grpc.StatusCode.INVALID_ARGUMENT,
        "FOREIGN_CHAT_MARKERS",
        "conversation.messages[1].content",
    ),
    "control tokens": (
        {"conversation": said("hi<|eot_id|>")},
        grpc.StatusCode.INVALID_ARGUMENT,
        "CONTROL_TOKENS_IN_CONTENT",
        "conversation.messages[1].content",
    ),
    "bad tools": (
        {"conversation": {**GOOD, "tools_json": "{"}},
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        "conversation.tools_json",
    ),
    "id bytes": (
        {"tokens": {"ids": b"123"}},
        grpc.StatusCode.INVALID_ARGUMENT,
        "TOKEN_ID_OUT_OF_RANGE",
        "tokens.ids",
    ),
    "other tokenizer": (
        {"tokens": {"ids": b"1234", "tokenizer_digest": "sha256:other"}},
        grpc.StatusCode.FAILED_PRECONDITION,
        "TOKENIZER_MISMATCH",
        "tokens.tokenizer_digest",
    ),
    "metadata": (
        {"text": "x", "metadata": {"a": float("nan")}},
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        "metadata",
    ),
    "no time": (
        {"conversation": GOOD, "timeout": {"seconds": 0}},
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
        "",
    ),
}


@pytest.fixture(scope="module")
def stub(server: ServerThread) -> Iterator[reward_service_pb2_grpc.RewardServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield reward_service_pb2_grpc.RewardServiceStub(channel)


def item(fields: dict[str, Any], item_id: str = "") -> conversation_pb2.Item:
    return conversation_pb2.Item(id=item_id, **fields)


def outcome(proto: score_pb2.ItemResult) -> Result:
    return convert.result_from_proto(proto, 0)


def is_scored(proto: score_pb2.ItemResult) -> bool:
    return outcome(proto).error is None and proto.score.token_count > 0


def failed_call(call: Any) -> errors.RewardError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return errors.from_rpc_error(error.code(), error.details(), tuple(error.trailing_metadata()))


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_in_a_list(stub: reward_service_pb2_grpc.RewardServiceStub, name: str) -> None:
    fields, code, reason, field = BAD_ITEMS[name]
    request = reward_service_pb2.ScoreRequest(
        model=MODEL, items=[item({"conversation": GOOD}), item(fields), item({"conversation": GOOD})]
    )
    first, bad, last = stub.Score(request).results
    assert is_scored(first)
    assert is_scored(last)
    error = outcome(bad).error
    assert error is not None
    assert (error.code, error.reason, error.field) == (code, reason, f"items[1].{field}" if field else "")
    assert (first.id, bad.id, last.id) == ("0", "1", "2")


def stream(
    stub: reward_service_pb2_grpc.RewardServiceStub, *messages: reward_service_pb2.ScoreBatchRequest
) -> dict[str, list[score_pb2.ItemResult]]:
    found: dict[str, list[score_pb2.ItemResult]] = {}
    for response in stub.ScoreBatch(iter(messages), timeout=60):
        for result in response.results.results:
            found.setdefault(result.id, []).append(result)
    return found


def opening(**fields: Any) -> reward_service_pb2.ScoreBatchRequest:
    return reward_service_pb2.ScoreBatchRequest(open=reward_service_pb2.OpenStream(**{"model": MODEL, **fields}))


def items(*protos: conversation_pb2.Item) -> reward_service_pb2.ScoreBatchRequest:
    return reward_service_pb2.ScoreBatchRequest(items=reward_service_pb2.Items(items=protos))


def test_on_a_stream_together(stub: reward_service_pb2_grpc.RewardServiceStub) -> None:
    protos = []
    for name, (fields, *_) in BAD_ITEMS.items():
        protos += [item(fields, name), item({"conversation": GOOD}, f"after {name}")]
    found = stream(stub, opening(), items(), items(*protos))
    assert sorted(found) == sorted(proto.id for proto in protos)
    for name, (_, code, reason, field) in BAD_ITEMS.items():
        [bad], [good] = found[name], found[f"after {name}"]
        error = outcome(bad).error
        assert error is not None
        assert (error.code, error.reason, error.field) == (code, reason, field)
        assert is_scored(good)


def test_token_ids_out_of_range(stub: reward_service_pb2_grpc.RewardServiceStub, logit: LocalModel) -> None:
    digest = logit.info.tokenizer_digest
    protos = [
        convert.item_to_proto(Item(name, convert_ids(ids, digest)))
        for name, ids in {"good": (5, 6), "high": (5, 70_000), "low": (-1, 5)}.items()
    ]
    found = stream(stub, opening(), items(*protos))
    assert is_scored(found["good"][0])
    for name, field in (("high", "tokens.ids[1]"), ("low", "tokens.ids[0]")):
        error = outcome(found[name][0]).error
        assert error is not None
        assert (error.reason, error.field) == ("TOKEN_ID_OUT_OF_RANGE", field)


def convert_ids(ids: tuple[int, ...], digest: str) -> Any:
    from rm_grpc.types import TokenIds

    return TokenIds(ids, digest)


def test_an_id_in_flight_twice(stub: reward_service_pb2_grpc.RewardServiceStub) -> None:
    found = stream(
        stub, opening(), items(item({"conversation": GOOD}, "a"), item({"text": "b"}, "a"), item({"text": "c"}, "c"))
    )
    reasons = [error.reason if (error := outcome(proto).error) else "scored" for proto in found["a"]]
    assert sorted(reasons) == ["DUPLICATE_ID", "scored"]
    assert is_scored(found["c"][0])
    request = reward_service_pb2.ScoreRequest(model=MODEL, items=[item({"text": "x"}, "a"), item({"text": "y"}, "a")])
    first, second = stub.Score(request).results
    error = outcome(second).error
    assert is_scored(first)
    assert error is not None
    assert (error.code, error.reason, error.field) == (grpc.StatusCode.ALREADY_EXISTS, "DUPLICATE_ID", "items[1].id")


def test_an_item_without_id_on_a_stream(stub: reward_service_pb2_grpc.RewardServiceStub) -> None:
    found = stream(stub, opening(), items(item({"text": "x"}), item({"text": "x"}, "b")))
    error = outcome(found[""][0]).error
    assert error is not None
    assert (error.reason, error.field) == ("INVALID_REQUEST", "id")
    assert is_scored(found["b"][0])


def test_an_empty_list(stub: reward_service_pb2_grpc.RewardServiceStub) -> None:
    error = failed_call(lambda: stub.Score(reward_service_pb2.ScoreRequest(model=MODEL)))
    assert (error.code, error.reason, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_BATCH", "items")
    error = failed_call(lambda: stub.Tokenize(reward_service_pb2.TokenizeRequest(model=MODEL)))
    assert error.reason == "EMPTY_BATCH"


def test_a_list_beyond_the_window(stub: reward_service_pb2_grpc.RewardServiceStub) -> None:
    request = reward_service_pb2.ScoreRequest(model=MODEL, items=[item({"text": "x"})] * 1025)
    error = failed_call(lambda: stub.Score(request))
    assert (error.reason, error.field) == ("INVALID_REQUEST", "items")


@pytest.mark.parametrize("name", ["nothing", ""])
def test_a_model_that_is_not_served(stub: reward_service_pb2_grpc.RewardServiceStub, name: str) -> None:
    calls = [
        lambda: stub.Score(reward_service_pb2.ScoreRequest(model=name, items=[item({"text": "x"})])),
        lambda: stub.GetModel(reward_service_pb2.GetModelRequest(name=name)),
        lambda: stub.Tokenize(reward_service_pb2.TokenizeRequest(model=name, items=[item({"text": "x"})])),
        lambda: stream(stub, opening(model=name)),
    ]
    for call in calls:
        error = failed_call(call)
        assert (error.code, error.reason, error.field) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "model")
        assert "arithmetic-classifier, arithmetic-logit" in error.message


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (items(item({"text": "x"}, "a")),),
        (reward_service_pb2.ScoreBatchRequest(),),
        (opening(), opening()),
        (opening(), reward_service_pb2.ScoreBatchRequest()),
        (opening(), items(*(item({}, str(at)) for at in range(1025)))),
    ],
)
def test_a_stream_out_of_order(
    stub: reward_service_pb2_grpc.RewardServiceStub, messages: tuple[reward_service_pb2.ScoreBatchRequest, ...]
) -> None:
    error = failed_call(lambda: stream(stub, *messages))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "STREAM_PROTOCOL")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"ordering": 9}, "open.ordering"),
        ({"max_results_per_message": -1}, "open.max_results_per_message"),
        ({"options": {"activation": 9}}, "options.activation"),
    ],
)
def test_an_opening_that_is_not_known(
    stub: reward_service_pb2_grpc.RewardServiceStub, fields: dict[str, Any], field: str
) -> None:
    error = failed_call(lambda: stream(stub, opening(**fields)))
    assert (error.code, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_a_message_over_the_limit(stub: reward_service_pb2_grpc.RewardServiceStub) -> None:
    huge = item({"text": "x" * (17 * 2**20)}, "huge")
    for call in (
        lambda: stream(stub, opening(), items(huge)),
        lambda: stub.Score(reward_service_pb2.ScoreRequest(model=MODEL, items=[huge])),
    ):
        error = failed_call(call)
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")


def test_nan_from_a_model(
    stub: reward_service_pb2_grpc.RewardServiceStub, logit: LocalModel, classifier: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedding of one token is NaN in a copy of the weights; only conversations with that token are errors."""
    import torch

    embedding = classifier.packed.scorer.backbone.model.get_input_embeddings().weight
    poisoned = classifier.text.encoder.encode([" zebra"])[0][-1]
    with torch.no_grad():
        kept = embedding[poisoned].clone()
        embedding[poisoned] = float("nan")
    try:
        protos = [item({"text": text}, text) for text in ("12", "a zebra", "13")]
        found = stream(stub, opening(model="arithmetic-classifier"), items(*protos))
    finally:
        with torch.no_grad():
            embedding[poisoned] = kept
    error = outcome(found["a zebra"][0]).error
    assert error is not None
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "SCORE_NOT_FINITE")
    assert is_scored(found["12"][0])
    assert is_scored(found["13"][0])
