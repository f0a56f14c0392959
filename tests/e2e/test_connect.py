"""The contract over HTTP in the Connect protocol, and ScoreEach over gRPC. The TypeScript client is a real Connect client."""

from __future__ import annotations

import base64
import json
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2
from services.models import HeldScorer, LocalModel, with_scorer
from services.server import ServerThread

from rm_grpc.v1 import reward_service_pb2, reward_service_pb2_grpc
from rm_grpc_client import RewardClient

SERVICE = "/rm_grpc.v1.RewardService/"
ENVELOPE = struct.Struct(">BI")
CONVERSATION = [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": "1+1=2"}]
GOOD = {
    "messages": [
        {"role": "user", "content": [{"text": "What is 1+1?"}]},
        {"role": "assistant", "content": [{"text": "1+1=2"}]},
    ]
}
ORIGIN = "https://evaluation.example"


@pytest.fixture(scope="module")
def server(classifier: LocalModel, logit: LocalModel) -> Iterator[ServerThread]:
    with ServerThread([classifier, logit], http="127.0.0.1:0", http_origins=ORIGIN) as running:
        yield running


def post(server: ServerThread, method: str, body: Any, **headers: str) -> httpx.Response:
    """A call in JSON, or in bytes where the body is some."""
    headers = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with httpx.Client(base_url=f"http://{server.http_address}", trust_env=False, verify=False, timeout=20) as http:
        return http.post(SERVICE + method, content=content, headers=headers)


def enveloped(payload: bytes, flags: int = 0) -> bytes:
    return ENVELOPE.pack(flags, len(payload)) + payload


def messages(body: bytes) -> tuple[list[bytes], dict[str, Any]]:
    """The messages of a stream, and how it ended."""
    found = []
    while body:
        flags, length = ENVELOPE.unpack_from(body)
        payload, body = body[ENVELOPE.size :][:length], body[ENVELOPE.size + length :]
        assert len(payload) == length
        if flags == 2:
            assert not body, "nothing follows the end"
            return found, json.loads(payload)
        assert flags == 0
        found.append(payload)
    raise AssertionError("a stream without an end")


def reason(error: dict[str, Any]) -> str:
    """The reason in an error's details."""
    [info] = [detail for detail in error["details"] if detail["type"] == "google.rpc.ErrorInfo"]
    value: str = info["value"]
    return error_details_pb2.ErrorInfo.FromString(base64.b64decode(value + "=" * (-len(value) % 4))).reason


def test_scores_are_those_of_grpc_in_both_codecs(server: ServerThread) -> None:
    with RewardClient(server.address, model="arithmetic-logit") as client:
        [expected] = client.score([CONVERSATION])
    asked = {"model": "arithmetic-logit", "items": [{"conversation": GOOD}, {"id": "bad", "text": ""}]}
    told = post(server, "Score", asked)
    assert told.headers["content-type"] == "application/json"
    raw = json_format.ParseDict(asked, reward_service_pb2.ScoreRequest()).SerializeToString()
    binary = post(server, "Score", raw, content_type="application/proto", connect_protocol_version="1")
    assert binary.headers["content-type"] == "application/proto"
    for response in (
        json_format.Parse(told.content, reward_service_pb2.ScoreResponse()),
        reward_service_pb2.ScoreResponse.FromString(binary.content),
    ):
        good, bad = response.results
        assert (good.id, good.score.score, good.score.model_digest) == ("0", expected.score, expected.model_digest)
        assert (bad.id, bad.error.code) == ("bad", grpc.StatusCode.INVALID_ARGUMENT.value[0])


def test_the_other_methods(server: ServerThread) -> None:
    models = post(server, "ListModels", {}).json()["models"]
    assert [model["name"] for model in models] == ["arithmetic-classifier", "arithmetic-logit"]
    assert post(server, "GetModel", {"name": "arithmetic-logit"}).json()["model"] == models[1]
    read = post(server, "Tokenize", {"model": "arithmetic-logit", "items": [{"conversation": GOOD}]}).json()["results"][0]
    assert "What is 1+1?" in read["tokenization"]["renderedText"]


@pytest.mark.parametrize("codec", ["json", "proto"])
def test_each_result_comes_when_it_is_ready(logit: LocalModel, codec: str) -> None:
    held = HeldScorer(logit.scorer)
    asked = reward_service_pb2.ScoreEachRequest(items=[{"id": "slow", "text": "1+1=2"}, {"id": "bad", "text": ""}])
    raw = asked.SerializeToString() if codec == "proto" else json_format.MessageToJson(asked).encode()
    with (
        ServerThread([with_scorer(logit, held)], http="127.0.0.1:0") as server,
        httpx.Client(base_url=f"http://{server.http_address}", trust_env=False, verify=False, timeout=20) as http,
        http.stream(
            "POST", f"{SERVICE}ScoreEach", content=enveloped(raw), headers={"content-type": f"application/connect+{codec}"}
        ) as answer,
    ):
        assert answer.status_code == 200
        chunks = answer.iter_raw()
        first = next(chunks)
        assert not held.release.is_set()
        assert b"bad" in first
        assert b"slow" not in first
        held.release.set()
        found, end = messages(first + b"".join(chunks))
    kind = reward_service_pb2.ScoreEachResponse
    parsed = [kind.FromString(one) if codec == "proto" else json_format.Parse(one, kind()) for one in found]
    assert [result.id for message in parsed for result in message.results] == ["bad", "slow"]
    assert end == {}


def test_score_each_over_grpc(server: ServerThread) -> None:
    asked = reward_service_pb2.ScoreEachRequest(model="arithmetic-logit", items=[{"text": "1+1=2"}] * 40 + [{"text": ""}])
    with grpc.insecure_channel(server.address) as channel:
        stub = reward_service_pb2_grpc.RewardServiceStub(channel)
        results = [result for response in stub.ScoreEach(asked, timeout=30) for result in response.results]
        assert sorted(int(result.id) for result in results) == list(range(41))
        assert [result.id for result in results if result.HasField("error")] == ["40"]
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ScoreEach(reward_service_pb2.ScoreEachRequest(model="nobody", items=[{"text": "x"}]), timeout=30))
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("body", "headers", "status", "code", "why"),
    [
        ({"model": "nobody", "items": [{"text": "x"}]}, {}, 404, "not_found", "MODEL_NOT_FOUND"),
        ({"model": "arithmetic-logit"}, {}, 400, "invalid_argument", "EMPTY_BATCH"),
        ({"modle": "arithmetic-logit"}, {}, 400, "invalid_argument", "INVALID_REQUEST"),
        (b"{", {}, 400, "invalid_argument", "INVALID_REQUEST"),
        (b"\xff", {}, 400, "invalid_argument", "INVALID_REQUEST"),
        (b"\xff", {"content_type": "application/proto"}, 400, "invalid_argument", "INVALID_REQUEST"),
        ({}, {"content_type": "text/plain"}, 400, "invalid_argument", "INVALID_REQUEST"),
        ({}, {"content_type": "application/connect+json"}, 400, "invalid_argument", "INVALID_REQUEST"),
        ({}, {"content_encoding": "gzip"}, 400, "invalid_argument", "INVALID_REQUEST"),
        ({}, {"connect_protocol_version": "2"}, 400, "invalid_argument", "INVALID_REQUEST"),
        (
            {"model": "arithmetic-logit", "items": [{"text": "x"}]},
            {"connect_timeout_ms": "-1"},
            400,
            "invalid_argument",
            "INVALID_REQUEST",
        ),
        ({"items": [{"text": "x" * 17_000_000}]}, {}, 413, "resource_exhausted", "MESSAGE_TOO_LARGE"),
    ],
)
def test_a_call_that_fails(server: ServerThread, body: Any, headers: dict[str, str], status: int, code: str, why: str) -> None:
    answer = post(server, "Score", body, **headers)
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()
    assert (answer.status_code, error["code"], reason(error)) == (status, code, why)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (enveloped(b'{"model": "nobody", "items": [{"text": "x"}]}'), "MODEL_NOT_FOUND"),
        (enveloped(b"{"), "INVALID_REQUEST"),
        (enveloped(b"{}") + enveloped(b"{}"), "INVALID_REQUEST"),
        (enveloped(b"{}", flags=1), "INVALID_REQUEST"),
        (b"", "INVALID_REQUEST"),
        (b"\0\0\0\0\x09{}", "INVALID_REQUEST"),
    ],
)
def test_a_stream_that_fails_says_so_at_its_end(server: ServerThread, body: bytes, why: str) -> None:
    answer = post(server, "ScoreEach", body, content_type="application/connect+json")
    assert answer.status_code == 200
    found, end = messages(answer.content)
    assert found == []
    assert reason(end["error"]) == why


def test_a_call_has_the_time_that_it_asks_for(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)], http="127.0.0.1:0") as server:
        timer = threading.Timer(3.0, held.release.set)
        timer.start()
        started = time.monotonic()
        post(server, "Score", {"items": [{"text": "1+1=2"}]})
        answer = post(server, "Score", {"items": [{"text": "1+1=2"}]}, connect_timeout_ms="0")
        assert answer.json()["results"][0]["error"]["code"] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert time.monotonic() - started >= 2.5
        timer.join()


def test_only_pages_that_are_named_may_call(server: ServerThread) -> None:
    with httpx.Client(base_url=f"http://{server.http_address}", trust_env=False, verify=False) as http:
        for origin, allowed in ((ORIGIN, ORIGIN), ("https://elsewhere.example", None)):
            asked = {"origin": origin, "access-control-request-method": "POST"}
            asked["access-control-request-headers"] = "authorization,connect-protocol-version,content-type"
            before = http.options(f"{SERVICE}Score", headers=asked)
            assert before.headers.get("access-control-allow-origin") == allowed
            assert (before.status_code == 200) is (allowed is not None)
            answer = http.post(f"{SERVICE}ListModels", json={}, headers={"origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed
