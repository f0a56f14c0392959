"""Messages and bytes that no client would send: each gets an answer that blames the caller, and the server goes on."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services.models import LocalModel
from services.server import ServerThread

from rm_grpc.v1 import conversation_pb2, reward_service_pb2, score_pb2
from rm_grpc_client import RewardClient

SERVICE = "/rm_grpc.v1.RewardService/"
GOOD = [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": "1+1=2"}]
OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.DEADLINE_EXCEEDED}
"""What would say that the server is at fault, or that it hung."""


@pytest.fixture(scope="module")
def server(classifier: LocalModel, logit: LocalModel) -> Iterator[ServerThread]:
    with ServerThread([classifier, logit], http="127.0.0.1:0") as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: ServerThread) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def items() -> list[conversation_pb2.Item]:
    messages = [
        conversation_pb2.Message(role="user", content=[{"text": "What is 1+1?"}], name="somebody"),
        conversation_pb2.Message(role="assistant", tool_calls=[{"id": "a", "name": "add", "arguments_json": '{"a": 1}'}]),
        conversation_pb2.Message(role="tool", content=[{"text": "2"}], tool_call_id="a"),
        conversation_pb2.Message(role="assistant", content=[{"text": "1+1=2"}], reasoning_content="easy"),
    ]
    return [
        conversation_pb2.Item(id="a", conversation={"messages": messages, "tools_json": "[]"}, metadata={"answer": "2"}),
        conversation_pb2.Item(id="b", text="1+1=2", group="g", timeout={"seconds": 5}),
        conversation_pb2.Item(id="c", tokens={"ids": b"\1\0\0\0\2\0\0\0", "tokenizer_digest": "sha256:x"}),
    ]


MODEL = "arithmetic-logit"
OPTIONS = score_pb2.ScoreOptions(control_tokens=1, activation=2)
UNARY = {
    "Score": reward_service_pb2.ScoreRequest(model=MODEL, options=OPTIONS, items=items()),
    "ScoreEach": reward_service_pb2.ScoreEachRequest(model=MODEL, options=OPTIONS, items=items()),
    "Tokenize": reward_service_pb2.TokenizeRequest(model=MODEL, options=OPTIONS, items=items()),
    "GetModel": reward_service_pb2.GetModelRequest(name=MODEL),
    "ListModels": reward_service_pb2.ListModelsRequest(),
}
STREAM = [
    reward_service_pb2.ScoreBatchRequest(open={"model": MODEL, "options": OPTIONS, "ordering": 2}),
    reward_service_pb2.ScoreBatchRequest(items={"items": items()}),
    reward_service_pb2.ScoreBatchRequest(cancel={"ids": ["a", "b"]}),
]


@st.composite
def mutated(draw: st.DrawFn, message: bytes) -> bytes:
    """The message with some of its bytes changed, taken out, doubled or cut off."""
    raw = bytearray(message)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        match draw(st.sampled_from(["set", "flip", "delete", "insert", "cut", "repeat"])):
            case "set" if raw:
                raw[at] = draw(st.integers(0, 255))
            case "flip" if raw:
                raw[at] ^= 1 << draw(st.integers(0, 7))
            case "delete":
                del raw[at : at + draw(st.integers(1, 8))]
            case "insert":
                raw[at:at] = draw(st.binary(max_size=12))
            case "cut":
                del raw[at:]
            case "repeat":
                raw[at:at] = raw[at : at + draw(st.integers(1, 40))]
    return bytes(raw)


def failure(call: Any) -> grpc.StatusCode | None:
    """The status that a call ended with, once it has ended."""
    try:
        list(call)
    except grpc.RpcError as error:
        status: Any = error
        return status.code()  # type: ignore[no-any-return]  # a call's error is a call
    return None


FUZZED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("method", UNARY)
@FUZZED
@given(draw=st.data())
def test_mutated_calls(channel: grpc.Channel, method: str, draw: st.DataObject) -> None:
    raw = draw.draw(st.one_of(mutated(UNARY[method].SerializeToString()), st.binary(max_size=200)))
    assert failure(channel.unary_stream(SERVICE + method)(raw, timeout=20)) not in OURS


@FUZZED
@given(draw=st.data())
def test_mutated_streams(channel: grpc.Channel, draw: st.DataObject) -> None:
    raws = [message.SerializeToString() for message in STREAM]
    for at in range(draw.draw(st.integers(0, 2)), len(raws)):
        raws[at] = draw.draw(st.one_of(mutated(raws[at]), st.binary(max_size=200)))
    assert failure(channel.stream_stream(SERVICE + "ScoreBatch")(iter(raws), timeout=20)) not in OURS


@pytest.mark.parametrize(
    ("path", "streams"),
    [("/grpc.health.v1.Health/Check", False), ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True)],
)
@settings(FUZZED, max_examples=60)
@given(raw=st.binary(max_size=60))
def test_mutated_calls_of_other_services(channel: grpc.Channel, path: str, streams: bool, raw: bytes) -> None:
    call = channel.stream_stream(path)(iter([raw]), timeout=20) if streams else channel.unary_stream(path)(raw, timeout=20)
    assert failure(call) not in OURS


@pytest.mark.parametrize("method", ["Score", "ScoreEach", "Tokenize", "GetModel"])
@pytest.mark.parametrize("codec", ["proto", "json"])
@settings(FUZZED, max_examples=60)
@given(draw=st.data())
def test_mutated_connect_calls(server: ServerThread, method: str, codec: str, draw: st.DataObject) -> None:
    message = UNARY[method]
    good = message.SerializeToString() if codec == "proto" else json_format.MessageToJson(message).encode()
    raw = draw.draw(mutated(good))
    kind = f"application/connect+{codec}" if method == "ScoreEach" else f"application/{codec}"
    if method == "ScoreEach" and draw.draw(st.booleans()):
        raw = b"\0" + len(raw).to_bytes(4, "big") + raw
    url = f"http://{server.http_address}{SERVICE}{method}"
    with httpx.Client(trust_env=False, verify=False, timeout=20) as http:
        answer = http.post(url, content=raw, headers={"content-type": kind})
    assert answer.status_code < 500, answer.text
    assert b'"code": "internal"' not in answer.content
    assert b'"code": "unknown"' not in answer.content


def test_a_field_of_the_options_that_is_not_known_is_refused(channel: grpc.Channel) -> None:
    """It could change the number; elsewhere unknown fields are no error."""
    call: Any = channel.unary_unary(SERVICE + "Score")
    request = reward_service_pb2.ScoreRequest(model=MODEL, items=[{"text": "1+1=2"}])
    unknown = b"\xc8\x3e\x01"  # field 1001, a varint
    assert call(request.SerializeToString() + unknown)
    options = reward_service_pb2.ScoreRequest(options=score_pb2.ScoreOptions.FromString(unknown))
    with pytest.raises(grpc.RpcError) as caught:
        call(request.SerializeToString() + options.SerializeToString())
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "field number 1001" in error.details()


@pytest.mark.parametrize("seed", range(20))
def test_bytes_that_are_no_call(server: ServerThread, seed: int) -> None:
    """Random ones, and the beginnings of HTTP/2, TLS and HTTP/1 followed by random ones."""
    rng = random.Random(seed)
    beginnings = [b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"POST /v1/score_batch HTTP/1.1\r\n"]
    for address in (server.address, server.http_address):
        host, _, port = address.rpartition(":")
        for beginning in beginnings:
            with socket.create_connection((host, int(port)), timeout=20) as raw:
                try:
                    raw.sendall(beginning + rng.randbytes(rng.choice([1, 30, 1000, 100_000])))
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(65536):
                        pass
                except TimeoutError:
                    raise
                except OSError:
                    pass  # hung up, which is an answer too
    with RewardClient(server.address, model=MODEL) as client:
        assert client.score([GOOD])
    assert httpx.get(f"http://{server.http_address}/health", trust_env=False).status_code == 200
