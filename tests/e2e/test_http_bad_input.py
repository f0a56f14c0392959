"""Whatever is sent over HTTP is answered: with what is wrong and where, in the face's words, and never with a 5xx."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services.http import alone, caller, exchange, url_of, wait_until
from services.models import LocalModel
from services.server import ServerThread

from rm_grpc_client import RewardClient

MODEL = "arithmetic-logit"
CHAT = exchange("What is 1+1?", "1+1=2")
LIMIT = 200_000
ANSWER = {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "1+1=2"}]}]}
GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": CHAT, "model": MODEL}),
    "embeddings": ("/v1/embeddings", {"input": ["a", "b"], "model": MODEL, "rid": "x"}),
    "classify": ("/classify", {"input": ["a", "b"], "request_id": "x"}),
    "classify messages": ("/classify", {"messages": CHAT}),
    "classify text": ("/classify", {"text": ["a"], "rid": ["x"]}),
    "classify ids": ("/classify", {"input_ids": [[5, 6], [7]]}),
    "pooling": ("/pooling", {"input": [5, 6], "task": "classify"}),
    "score": ("/score", {"queries": "a", "documents": ["b", "c"], "request_id": "x"}),
    "rerank": ("/rerank", {"query": "a", "documents": ["b", "c"], "top_n": 1}),
    "tei rerank": ("/rerank", {"query": "a", "texts": ["b"], "return_text": True}),
    "predict": ("/predict", {"inputs": [["a", "b"], ["c"]], "raw_scores": False}),
    "get_reward": ("/get_reward", {"query": ["a"], "prompts": ["a"], "labels": ["b"]}),
    "get_reward unrender": (
        "/get_reward?unrender=true",
        {"query": ["<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb"]},
    ),
    "slime": ("/slime", {"prompt": "a", "response": "b", "label": None}),
    "slime unrender": ("/slime?unrender=1&answer=object", {"prompt": CHAT[:1], "response": "b", "label": "c"}),
    "verify": ("/verify", {"responses_create_params": {"input": "a"}, "response": ANSWER, "column": [1, {"x": None}]}),
    "compare": ("/compare", {"conversation_history": CHAT[:1], "response_objs": [ANSWER, ANSWER], "principle": "x"}),
    "lines": ("/v1/score_batch", {"messages": CHAT, "id": "a", "metadata": {"x": 1}}),
}


@pytest.fixture(scope="module")
def server(logit: LocalModel) -> Iterator[ServerThread]:
    with ServerThread([logit], http="127.0.0.1:0", max_message_bytes=LIMIT) as running:
        yield running
        kept(url_of(running)).close()


@cache
def kept(url: str) -> httpx.Client:
    """A client whose connections are used again."""
    return httpx.Client(base_url=url, timeout=20, trust_env=False, verify=False)


def send_bytes(server: ServerThread, path: str, body: bytes) -> httpx.Response:
    """A body that says it is JSON."""
    return kept(url_of(server)).post(path, content=body, headers={"content-type": "application/json"})


def send(server: ServerThread, path: str, body: Any) -> httpx.Response:
    """A body as Python's json writes it, which has NaN and lone surrogates."""
    return send_bytes(server, path, json.dumps(body).encode())


def is_alive(server: ServerThread) -> bool:
    path, body = GOOD["chat"]
    return send(server, path, body).status_code == 200


def told(response: httpx.Response) -> Any:
    """What is told of an error: JSON, whatever the face."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert "error" in body or "detail" in body or body.get("object") == "error"
    return body


def refused(server: ServerThread, path: str, body: Any) -> Any:
    """The error of a body that must not be scored."""
    return told(send(server, path, body))


@pytest.mark.parametrize("name", GOOD)
def test_what_the_tests_break_is_whole(server: ServerThread, name: str) -> None:
    path, body = GOOD[name]
    response = send(server, path, body)
    assert response.status_code == 200, response.text


# --- bodies that are not what a face takes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in GOOD if name != "lines"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"nothing", b"\xff\xfe", b"[", b"null", b"[]", b"3", b'"x"', b"{}", b"[" * 100_000]
)
def test_bodies_that_are_no_request(server: ServerThread, name: str, body: bytes) -> None:
    told(send_bytes(server, GOOD[name][0], body))


@pytest.mark.parametrize("name", [name for name in GOOD if name not in ("verify", "compare", "lines")])
def test_an_unknown_field_is_refused_by_its_name(server: ServerThread, name: str) -> None:
    """It could change the number; NeMo-Gym's agents alone send columns of their own."""
    path, body = GOOD[name]
    for key in ("colour", "truncate_everything"):
        assert key in json.dumps(refused(server, path, {**body, key: 1}))


@pytest.mark.parametrize("name", ["chat", "get_reward", "slime", "predict", "lines"])
def test_an_unknown_word_of_the_query_is_refused_by_its_name(server: ServerThread, name: str) -> None:
    """`?unrendered=true` must not score the rendered text."""
    path, body = GOOD[name]
    assert "unrendered" in json.dumps(refused(server, f"{path}?unrendered=true", body))


@pytest.mark.parametrize("query", ["control_tokens=x", "foreign_markers=x", "unrender=perhaps"])
def test_a_query_s_values_are_checked(server: ServerThread, query: str) -> None:
    assert query.partition("=")[0] in json.dumps(refused(server, f"/get_reward?{query}", GOOD["get_reward"][1]))


WRONG: list[tuple[str, Any]] = [
    ("/v1/chat/completions", {"messages": "hi"}),
    ("/v1/chat/completions", {"messages": []}),
    ("/v1/chat/completions", {"messages": [1]}),
    ("/v1/chat/completions", {"messages": [{"role": "user"}]}),
    ("/v1/chat/completions", {"messages": [{"content": "x"}]}),
    ("/v1/chat/completions", {"messages": [{"role": "robot", "content": "x"}]}),
    ("/v1/chat/completions", {"messages": [*CHAT[:1], {"role": "assistant", "content": 3}]}),
    ("/v1/chat/completions", {"messages": [*CHAT[:1], {"role": "assistant", "content": [{"type": "image_url"}]}]}),
    ("/v1/chat/completions", {"messages": CHAT, "tools": 3}),
    ("/v1/chat/completions", {"messages": CHAT, "stream": True}),
    ("/v1/chat/completions", {"messages": CHAT, "n": 2}),
    ("/v1/chat/completions", {"messages": CHAT, "model": 3}),
    ("/v1/chat/completions", {"messages": CHAT, "metadata": "x"}),
    ("/classify", {"input": "a", "messages": CHAT}),
    ("/classify", {"model": MODEL}),
    ("/classify", {"input": []}),
    ("/classify", {"input": ""}),
    ("/classify", {"input": [""]}),
    ("/classify", {"input": [[]]}),
    ("/classify", {"input": ["a", 1]}),
    ("/classify", {"input": [1, "a"]}),
    ("/classify", {"input": [1, [2]]}),
    ("/classify", {"input": {"text": "a"}}),
    ("/classify", {"input": [{"text": "a"}]}),
    ("/classify", {"input": "a", "truncate_prompt_tokens": 5}),
    ("/classify", {"input": "a", "use_activation": "perhaps"}),
    ("/classify", {"messages": CHAT, "add_special_tokens": True}),
    ("/classify", {"messages": CHAT, "add_generation_prompt": True}),
    ("/classify", {"messages": CHAT, "continue_final_message": True}),
    ("/classify", {"text": "a", "input_ids": [1]}),
    ("/classify", {"text": None, "input_ids": None}),
    ("/classify", {"text": []}),
    ("/classify", {"text": 3}),
    ("/classify", {"text": ["a", "b"], "rid": ["x"]}),
    ("/classify", {"input_ids": []}),
    ("/pooling", {"input": "a", "task": "embed"}),
    ("/pooling", {"input": "a", "encoding_format": "bytes"}),
    ("/score", {"queries": "a"}),
    ("/score", {"queries": ["a", "b"], "documents": ["c", "d", "e"]}),
    ("/score", {"queries": [], "documents": ["c"]}),
    ("/score", {"queries": "a", "documents": []}),
    ("/score", {"queries": "a", "documents": [3]}),
    ("/rerank", {"query": "a", "documents": []}),
    ("/rerank", {"query": ["a"], "documents": ["b"]}),
    ("/rerank", {"query": "a", "documents": ["b"], "top_n": -1}),
    ("/rerank", {"query": "a", "texts": []}),
    ("/rerank", {"query": "a", "texts": ["b"], "documents": ["b"]}),
    ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}),
    ("/v1/embeddings", {"input": None}),
    ("/predict", {"inputs": []}),
    ("/predict", {"inputs": [[]]}),
    ("/predict", {"inputs": ["a", "b", "c"]}),
    ("/predict", {"inputs": [["a", "b", "c"]]}),
    ("/predict", {"inputs": ["a", ["b"]]}),
    ("/predict", {"inputs": ""}),
    ("/get_reward", {"query": "a"}),
    ("/get_reward", {"query": ["a"], "labels": ["b", "c"]}),
    ("/get_reward", {"query": [""]}),
    ("/get_reward?unrender=true", {"query": ["a"]}),
    ("/slime", {"prompt": "a"}),
    ("/slime", {"prompt": 3, "response": "b"}),
    ("/slime", {"prompt": [], "response": 3}),
    ("/verify", {"responses_create_params": {}, "response": ANSWER}),
    ("/verify", {"responses_create_params": {"input": "a"}, "response": {}}),
    ("/verify", {"responses_create_params": {"input": "a"}, "response": {"output": []}}),
    ("/verify", {"responses_create_params": {"input": "a"}, "response": {"output": [{"type": "function_call"}]}}),
    (
        "/verify",
        {"responses_create_params": {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "response": ANSWER},
    ),
    ("/compare", {"conversation_history": CHAT[:1], "response_objs": [{"output": []}]}),
    ("/compare", {"conversation_history": "a", "response_objs": [ANSWER]}),
]


@pytest.mark.parametrize(("path", "body"), WRONG, ids=lambda value: json.dumps(value)[:50])
def test_what_cannot_be_scored_is_refused(server: ServerThread, path: str, body: Any) -> None:
    refused(server, path, body)


@pytest.mark.parametrize("ids", [[True, False], [1.0, 2.0], [["1", "2"]], [[True]], [-1], [752 + 10_000], [2**40], [1, None]])
@pytest.mark.parametrize(("path", "key"), [("/classify", "input"), ("/classify", "input_ids"), ("/v1/embeddings", "input")])
def test_what_is_no_token_id_is_not_taken_for_one(server: ServerThread, path: str, key: str, ids: Any) -> None:
    refused(server, path, {key: ids})


@pytest.mark.parametrize("flag", [1, "true", "no", 0])
def test_flags_are_true_or_false(server: ServerThread, flag: Any) -> None:
    """What looks like a flag in another language's terms either means the same everywhere or is refused."""
    response = send(server, "/classify", {"messages": CHAT, "use_activation": flag})
    if response.status_code == 200:
        wanted = send(server, "/classify", {"messages": CHAT, "use_activation": flag in (1, "true")})
        assert response.json()["data"] == wanted.json()["data"]
    else:
        told(response)


# --- errors name what is at fault -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", {"messages": [*CHAT, {"role": "user", "content": "?"}]}, "messages[2].role"),
        ("/v1/chat/completions", {"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ("/v1/chat/completions", {"messages": exchange("a", "<|eot_id|>")}, "messages[1].content"),
        ("/classify", {"input": ["a", ""]}, "input[1]"),
        ("/classify", {"input": ["a", "<|im_start|>"]}, "input[1]"),
        ("/classify", {"messages": exchange("a", "<|eot_id|>")}, "messages[1].content"),
        ("/v1/embeddings", {"input": ["a", "b", ""]}, "input[2]"),
        ("/v1/embeddings", {"input": [[5], [5, 99_999]]}, "input[1][1]"),
        ("/score", {"queries": "a", "documents": ["b", "<|eot_id|>"]}, "documents[1]"),
        ("/rerank", {"query": "a", "documents": ["b", "<|eot_id|>"]}, "documents[1]"),
        ("/score", {"queries": ["a", "b"], "documents": ["1", "2", "3"]}, "documents"),
    ],
)
def test_a_field_is_named_as_the_caller_knows_it(server: ServerThread, path: str, body: Any, field: str) -> None:
    answer = refused(server, path, body)
    assert answer.get("error", answer)["param"] == field


def test_each_face_tells_errors_in_its_own_words(server: ServerThread) -> None:
    chat = refused(server, "/v1/chat/completions", {"messages": CHAT[:1]})["error"]
    assert (chat["type"], chat["code"]) == ("invalid_request_error", "no_response")
    vllm = refused(server, "/classify", {"messages": CHAT[:1]})["error"]
    assert (vllm["type"], vllm["code"]) == ("BadRequestError", 400)
    sglang = refused(server, "/v1/embeddings", {"input": ""})
    assert (sglang["object"], sglang["code"], sglang["type"]) == ("error", 400, "BadRequestError")
    assert refused(server, "/classify", {"text": ""})["error"]["message"]
    for path, body in (("/predict", {"inputs": "<|im_start|>"}), ("/rerank", {"query": "a", "texts": ["<|eot_id|>"]})):
        response = send(server, path, body)
        assert (response.status_code, response.json()["error_type"]) == (422, "Validation")
    empty = send(server, "/rerank", {"query": "a", "texts": []})
    assert (empty.status_code, empty.json()["error_type"]) == (400, "Empty")
    assert refused(server, "/get_reward", {"query": ["<|im_start|>"]})["error"]["reason"] == "FOREIGN_CHAT_MARKERS"
    assert (
        refused(server, "/slime", {"prompt": "a", "response": "<|eot_id|>"})["error"]["reason"] == "CONTROL_TOKENS_IN_CONTENT"
    )
    verify = {**GOOD["verify"][1], "response": {"output": []}}
    assert refused(server, "/verify", verify)["detail"][0]["type"] == "no_response"


@pytest.mark.parametrize("name", GOOD)
def test_a_sample_that_is_too_long_is_refused(server: ServerThread, name: str) -> None:
    path, body = GOOD[name]
    long = json.loads(json.dumps(body).replace("1+1=2", "word " * 2000).replace('"b', '"b ' + "word " * 2000))
    long = json.loads(json.dumps(long).replace("assistant\\nb", "assistant\\n" + "word " * 2000))
    if long == body:
        key = next(iter(body))
        long = {**body, key: [5] * 3000 if key in ("input", "input_ids") else ["word " * 2000]}
        long.pop("rid", None)
    if "labels" in body:
        long = {**body, "query": ["word " * 2000]}
    response = send(server, path, long)
    if name == "lines":
        assert json.loads(response.text)["error"]["reason"] == "CONVERSATION_TOO_LONG"
        return
    told(response)
    assert response.headers["x-rm-grpc-reason"] == "CONVERSATION_TOO_LONG"
    assert "retry-after" not in response.headers


# --- what JSON can hold and text cannot -------------------------------------------------------------------------------


SURROGATE = "\ud800"


@pytest.mark.parametrize("name", GOOD)
def test_lone_surrogates_are_refused_wherever_they_stand(server: ServerThread, name: str) -> None:
    path, body = GOOD[name]
    for broken in mutations(body, lambda value: isinstance(value, str), SURROGATE):
        response = send(server, path, broken)
        assert response.status_code < 500, (broken, response.text)
    response = send(server, path, {**body, SURROGATE: 1})
    assert response.status_code < 500, response.text
    assert send(server, f"{path}{'&' if '?' in path else '?'}model=%ff%00", body).status_code in (200, 404)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400, -0.0], ids=["nan", "inf", "huge", "-0"])
def test_numbers_that_are_none_are_no_fault_of_the_server(server: ServerThread, name: str, number: float) -> None:
    path, body = GOOD[name]
    for broken in (*mutations(body, lambda _: True, number), {**body, "x": number}):
        response = send(server, path, broken)
        assert response.status_code < 500, (broken, response.text)


def test_columns_that_json_cannot_have_are_refused_by_nemo_gym(server: ServerThread) -> None:
    """The answer has the columns of the request: what cannot be said back is the caller's mistake."""
    for column in (SURROGATE, {SURROGATE: 1}, [SURROGATE]):
        refused(server, "/verify", {**GOOD["verify"][1], "column": column})


def test_metadata_that_grpc_refuses_is_refused_on_a_line(server: ServerThread) -> None:
    response = send(server, "/v1/score_batch", {"messages": CHAT, "metadata": {"x": float("nan")}})
    error = json.loads(response.text)["error"]
    assert (error["reason"], error["message"]) == ("INVALID_REQUEST", "NaN is no JSON value")


@pytest.mark.parametrize("depth", [50, 300, 600, 950, 3000])
@pytest.mark.parametrize("name", GOOD)
def test_deep_nesting_is_refused_or_scored(server: ServerThread, name: str, depth: int) -> None:
    path, body = GOOD[name]
    nested: Any = '{"a":' * depth + "1" + "}" * depth
    for key in ("metadata", "column", "logit_bias", "user", "label", "model", next(iter(body))):
        text = json.dumps({**body, key: "@"}).replace('"@"', nested)
        assert send_bytes(server, path, text.encode()).status_code < 500, key


def mutations(value: Any, picks: Any, new: Any) -> Iterator[Any]:
    """The value with each of the places that are picked replaced, one at a time."""
    if isinstance(value, dict):
        for key in value:
            for changed in mutations(value[key], picks, new):
                yield {**value, key: changed}
    elif isinstance(value, list):
        for at, one in enumerate(value):
            for changed in mutations(one, picks, new):
                yield [*value[:at], changed, *value[at + 1 :]]
    if picks(value):
        yield new


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOOD)
def test_a_body_over_the_limit_is_413(server: ServerThread, name: str) -> None:
    path, body = GOOD[name]
    for size in (LIMIT + 1, 30 * LIMIT):
        response = send(server, path, {**body, "pad": "x" * size})
        assert response.status_code == 413, response.text
        assert str(LIMIT) in response.text
        assert response.headers["x-rm-grpc-reason"] == "MESSAGE_TOO_LARGE"


def test_a_body_that_comes_in_chunks_is_measured_too(server: ServerThread) -> None:
    with caller(server) as client:
        chunks = (b" " * 10_000 for _ in range(100))
        assert client.post("/classify", content=chunks, headers={"content-type": "application/json"}).status_code == 413
        fits = iter([b" " * 10_000, json.dumps({"messages": CHAT}).encode()])
        assert client.post("/classify", content=fits, headers={"content-type": "application/json"}).status_code == 200


def test_more_conversations_than_are_taken_at_once(logit: LocalModel) -> None:
    with ServerThread([logit], http="127.0.0.1:0", window_items=5) as server:
        assert send(server, "/classify", {"input": ["a"] * 5}).status_code == 200
        for path, body in (
            ("/classify", {"input": ["a"] * 6}),
            ("/predict", {"inputs": [["a"]] * 6}),
            ("/get_reward", {"query": ["a"] * 6}),
        ):
            assert "at most 5" in json.dumps(refused(server, path, body))
        assert send_bytes(server, "/v1/score_batch", b'{"text": "a"}\n' * 6).status_code == 400


# --- anything at all --------------------------------------------------------------------------------------------------


_WHATEVER = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@given(path=st.sampled_from(sorted({path for path, _ in GOOD.values()})), body=st.binary(max_size=300))
@_WHATEVER
def test_random_bytes_never_break_it(server: ServerThread, path: str, body: bytes) -> None:
    response = send_bytes(server, path, body)
    assert response.status_code < 500, response.text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(name=st.sampled_from(sorted(GOOD)), data=st.data())
@_WHATEVER
def test_mutated_requests_never_break_it(server: ServerThread, name: str, data: st.DataObject) -> None:
    path, body = GOOD[name]
    body = copy.deepcopy(body)
    for _ in range(data.draw(st.integers(1, 3))):
        spots = [where for where in _spots(body) if where]
        where = data.draw(st.sampled_from(spots))
        target: Any = body
        for part in where[:-1]:
            target = target[part]
        if data.draw(st.booleans()):
            target[where[-1]] = data.draw(json_values)
        else:
            del target[where[-1]]
        if not body:
            break
    response = send(server, path, body)
    assert response.status_code < 500, (body, response.text)


def _spots(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [where, *(spot for key, one in inner for spot in _spots(one, (*where, key)))]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_leaves_the_server_alive(server: ServerThread, raw: bytes) -> None:
    host, _, port = server.http_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(1000)
        except ConnectionResetError:
            answer = b""
    assert b" 500 " not in answer
    assert is_alive(server)


def test_after_all_that_scores_are_the_same_and_nothing_is_held(server: ServerThread) -> None:
    expected = alone(server, MODEL, CHAT).score
    response = send(server, "/classify", {"messages": CHAT})
    assert response.json()["data"][0]["probs"] == [expected]
    assert server._server is not None
    [engine] = server.engines.values()
    wait_until(lambda: engine.fill == 0.0)


def test_two_hundred_requests_at_once_have_each_its_own_number(server: ServerThread) -> None:
    conversations = [exchange(f"What is {at}+1?", str(at)) for at in range(200)]
    with RewardClient(server.address, model=MODEL) as client:
        expected = [score.score for score in client.score(conversations)]

    def number(messages: Any) -> float:
        response = send(server, "/v1/chat/completions", {"messages": messages})
        assert response.status_code == 200, response.text
        found: float = response.json()["choices"][0]["logprobs"]["content"][0]["logprob"]
        return found

    with ThreadPoolExecutor(50) as threads:
        assert list(threads.map(number, conversations)) == pytest.approx(expected, abs=1e-5)
