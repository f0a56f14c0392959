"""Over HTTP as over gRPC nothing is lost and nothing is kept: overload, faults, drains and callers that go away."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from services.faults import FaultyModel, Slowness
from services.http import alone, caller, exchange, leave, post, raw_post, url_of, wait_until
from services.models import FailingScorer, HeldScorer, LocalModel, with_scorer
from services.server import ServerProcess, ServerThread

from rm_grpc_client import RewardClient
from rm_grpc_server.config import load_settings
from rm_grpc_server.engine.replica import ReplicaProcess
from rm_grpc_server.errors import ConfigError, StartupError

MODEL = "arithmetic-logit"
CHAT = exchange("What is 1+1?", "1+1=2")
LONG = "word " * 2000
ANSWER = {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "1+1=2"}]}]}
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "OpenAI": ("/v1/chat/completions", {"messages": CHAT}),
    "vLLM": ("/classify", {"messages": CHAT}),
    "vLLM pooling": ("/pooling", {"messages": CHAT}),
    "vLLM score": ("/score", {"queries": "a", "documents": "b"}),
    "SGLang": ("/classify", {"text": "a"}),
    "SGLang embeddings": ("/v1/embeddings", {"input": "a"}),
    "TEI": ("/predict", {"inputs": "a"}),
    "TEI rerank": ("/rerank", {"query": "a", "texts": ["b"]}),
    "OpenRLHF": ("/get_reward", {"query": ["a"]}),
    "slime": ("/slime", {"prompt": "a", "response": "b"}),
    "NeMo-Gym": ("/verify", {"responses_create_params": {"input": "a"}, "response": ANSWER}),
    "NeMo-Gym compare": ("/compare", {"conversation_history": CHAT[:1], "response_objs": [ANSWER]}),
}


class Held:
    """A server whose only replica holds each batch until it is released; a batch is one conversation."""

    def __init__(self, server: ServerThread, scorer: HeldScorer) -> None:
        self.server = server
        self.scorer = scorer
        self.threads = ThreadPoolExecutor(16)

    @property
    def waiting(self) -> int:
        """Items that are accepted and not over."""
        assert self.server._server is not None
        [engine] = self.server.engines.values()
        held: Any = engine
        return len(held._open)

    @property
    def fullness(self) -> float:
        """How full the queue before the replica is."""
        assert self.server._server is not None
        [engine] = self.server.engines.values()
        return engine.fill

    def send(self, path: str, body: Any) -> Future[httpx.Response]:
        """A request that another thread waits for."""
        return self.threads.submit(post, self.server, path, body)

    def fill(self, items: int) -> list[Future[httpx.Response]]:
        """Has so many items accepted."""
        futures = [self.send("/classify", {"messages": CHAT}) for _ in range(items)]
        wait_until(lambda: self.waiting == items)
        return futures

    def fill_up(self) -> list[Future[httpx.Response]]:
        """Has as many items accepted as the replica and the queue before it take."""
        futures = self.fill(1)
        wait_until(self.scorer.started.is_set)
        while self.fullness < 1:
            futures.append(self.send("/classify", {"messages": CHAT}))
            wait_until(lambda: self.waiting == len(futures))
            time.sleep(0.05)  # the batch that is sent ahead leaves the queue
        return futures


@contextmanager
def holding(logit: LocalModel, **settings: Any) -> Iterator[Held]:
    scorer = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, scorer)], http="127.0.0.1:0", max_batch_tokens=1, **settings) as server:
        held = Held(server, scorer)
        try:
            yield held
        finally:
            scorer.release.set()
            held.threads.shutdown()


# --- bad samples ------------------------------------------------------------------------------------------------------


def test_an_over_long_sample_is_refused_at_once_even_while_the_replica_is_busy(logit: LocalModel) -> None:
    with holding(logit) as held:
        held.fill(2)
        for path, body in (
            ("/v1/chat/completions", {"messages": exchange("?", LONG)}),
            ("/classify", {"input": LONG}),
            ("/classify", {"text": LONG}),
            ("/predict", {"inputs": LONG}),
            ("/get_reward", {"query": [LONG]}),
            ("/slime", {"prompt": "a", "response": LONG}),
        ):
            response = post(held.server, path, body)
            assert 400 <= response.status_code < 500, path
            assert response.headers["x-rm-grpc-reason"] == "CONVERSATION_TOO_LONG"
        assert not held.scorer.release.is_set()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/classify", {"input": ["a", "b", LONG, "c"]}),
        ("/classify", {"text": ["a", "b", "", "c"]}),
        ("/predict", {"inputs": [["a"], ["b"], [LONG], ["c"]]}),
        ("/rerank", {"query": "a", "documents": ["b", "<|eot_id|>", "c"]}),
        ("/get_reward", {"query": ["a", "b", "<|im_start|>", "c"]}),
        ("/compare", {"conversation_history": CHAT[:1], "response_objs": [ANSWER, {"output": [{"content": LONG}]}, ANSWER]}),
    ],
)
def test_one_bad_sample_ends_its_request_at_once_and_takes_the_others_back(logit: LocalModel, path: str, body: Any) -> None:
    with holding(logit) as held:
        first = held.fill(2)
        wait_until(held.scorer.started.is_set)
        response = post(held.server, path, body)
        assert 400 <= response.status_code < 500, response.text
        wait_until(lambda: held.waiting == 2)
        held.scorer.release.set()
        assert [future.result().status_code for future in first] == [200, 200]
        assert post(held.server, "/classify", {"messages": CHAT}).status_code == 200
        assert len(held.scorer.batches) == 3, "the replica saw what came before and after, and none of the refused request"


# --- overload ---------------------------------------------------------------------------------------------------------


def test_a_full_queue_says_when_to_come_back(logit: LocalModel) -> None:
    with holding(logit, queue_items=2) as held:
        first = held.fill_up()
        for name, (path, body) in BODIES.items():
            response = post(held.server, path, body)
            assert response.status_code == 429, name
            assert response.headers["x-rm-grpc-reason"] == "OVERLOADED"
            assert int(response.headers["retry-after"]) >= 1
            assert response.headers.get("x-should-retry") != "false"
            if name.startswith("TEI"):
                assert response.json()["error_type"] == "Overloaded"
        held.scorer.release.set()
        assert {future.result().status_code for future in first} == {200}


def test_the_official_client_raises_its_rate_limit_error_or_tries_again(logit: LocalModel) -> None:
    with holding(logit, queue_items=2) as held:
        held.fill_up()
        transport = openai.DefaultHttpxClient(trust_env=False)
        url = url_of(held.server) + "/v1"
        with openai.OpenAI(base_url=url, api_key="x", max_retries=0, http_client=transport) as client:
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(model=MODEL, messages=CHAT)  # type: ignore[arg-type]
            assert caught.value.type == "rate_limit_error"
            assert int(caught.value.response.headers["retry-after"]) >= 1
            again = held.threads.submit(
                client.with_options(max_retries=5).chat.completions.create,
                model=MODEL,
                messages=CHAT,  # type: ignore[arg-type]
            )
            time.sleep(0.3)
            assert not again.done()
            held.scorer.release.set()
            assert again.result(timeout=60).choices[0].message.content


def test_a_full_queue_is_the_error_of_the_lines_that_found_it_full(logit: LocalModel) -> None:
    with holding(logit, queue_items=3) as held:
        body = b'{"text": "a"}\n' * 5
        answer = held.threads.submit(raw_post, held.server, "/v1/score_batch", body)
        wait_until(lambda: held.waiting == 3)
        held.scorer.release.set()
        found = sorted((json.loads(line) for line in answer.result().text.splitlines()), key=lambda line: line["line"])
    assert ["score" in line for line in found] == [True] * 3 + [False] * 2
    assert found[4]["error"]["reason"] == "OVERLOADED"
    assert found[4]["error"]["retry_delay"] > 0


def test_bodies_in_work_have_a_bound(logit: LocalModel) -> None:
    with holding(logit, queue_bytes=20_000) as held:
        body = {"messages": CHAT, "user": "x" * 12_000}
        first = held.send("/v1/chat/completions", body)
        wait_until(lambda: held.waiting == 1)
        second = post(held.server, "/v1/chat/completions", body)
        assert (second.status_code, second.headers["x-rm-grpc-reason"]) == (429, "OVERLOADED")
        held.scorer.release.set()
        assert first.result().status_code == 200
        assert post(held.server, "/v1/chat/completions", body).status_code == 200


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["OpenAI", "vLLM", "SGLang embeddings", "TEI", "OpenRLHF", "NeMo-Gym"])
def test_a_failed_forward_is_a_fault_that_trying_again_does_not_help(logit: LocalModel, name: str) -> None:
    failing = FailingScorer(logit.scorer, lambda _: True)
    with ServerThread([with_scorer(logit, failing)], http="127.0.0.1:0") as server:
        path, body = BODIES[name]
        response = post(server, path, body)
    assert response.status_code == (424 if name.startswith("TEI") else 500), response.text
    assert response.headers["x-rm-grpc-reason"] in ("SCORER_FAILED", "QUARANTINED")
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers


def test_the_official_client_does_not_repeat_what_cannot_help(logit: LocalModel) -> None:
    calls: list[httpx.Request] = []
    failing = with_scorer(logit, FailingScorer(logit.scorer, lambda _: True))
    transport = openai.DefaultHttpxClient(trust_env=False, event_hooks={"request": [calls.append]})
    with (
        ServerThread([failing], http="127.0.0.1:0") as server,
        openai.OpenAI(base_url=url_of(server) + "/v1", api_key="x", http_client=transport) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.chat.completions.create(model=MODEL, messages=CHAT)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_with_every_replica_dead_requests_and_health_are_503(logit: LocalModel) -> None:
    model = FaultyModel(logit.info, logit.text, slowness=Slowness(launch=30.0))
    with ServerThread([model], http="127.0.0.1:0", recovery_seconds=0.15) as server, caller(server) as client:
        assert client.get("/health").json() == {"ready": True, "models": {MODEL: True}}
        place = server.models[0].pool.places[0]
        assert isinstance(place.replica, ReplicaProcess)
        assert place.replica.pid is not None
        with ThreadPoolExecutor(1) as threads:
            accepted = threads.submit(post, server, "/classify", {"messages": CHAT})
            time.sleep(0.3)
            os.kill(place.replica.pid, signal.SIGKILL)
            wait_until(lambda: client.get("/health").status_code == 503)
            response = client.post("/classify", json={"messages": CHAT})
            ready = client.get("/v1/health/ready").status_code
            alive = client.get("/v1/health/live").status_code
            found = accepted.result()
    assert (response.status_code, ready, alive) == (503, 503, 200)
    assert response.headers["x-rm-grpc-reason"] == "UNAVAILABLE"
    assert int(response.headers["retry-after"]) >= 1
    assert found.status_code == 503


# --- drain ------------------------------------------------------------------------------------------------------------


def test_a_draining_server_finishes_what_it_accepted_and_takes_nothing_new(logit: LocalModel) -> None:
    with holding(logit) as held:
        first = held.fill(2)
        stream = held.threads.submit(raw_post, held.server, "/v1/score_batch", b'{"text": "a"}\n{"text": "b"}\n')
        wait_until(lambda: held.waiting == 4)
        draining = held.threads.submit(held.server.drain, 30)
        with caller(held.server) as client:
            wait_until(lambda: client.get("/health").status_code == 503)
            assert client.get("/v1/health/live").status_code == 200
            for name, (path, body) in BODIES.items():
                response = client.post(path, json=body)
                assert response.status_code == 503, name
                assert response.headers["x-rm-grpc-reason"] == "DRAINING"
                assert int(response.headers["retry-after"]) >= 1
            assert client.post("/v1/score_batch", content=b'{"text": "a"}').status_code == 503
        held.scorer.release.set()
        assert [future.result().status_code for future in first] == [200, 200]
        assert [sorted(json.loads(line)) for line in stream.result().text.splitlines()] == [
            ["line", "model_digest", "raw_score", "score", "token_count", "truncated"]
        ] * 2
        draining.result()
        with pytest.raises(httpx.ConnectError):
            post(held.server, "/classify", {"messages": CHAT})


def test_an_idle_connection_does_not_hold_up_a_drain(logit: LocalModel) -> None:
    with ServerThread([logit], http="127.0.0.1:0") as server, caller(server) as client:
        assert client.get("/health").status_code == 200
        started = time.monotonic()
        server.drain(30)
        assert time.monotonic() - started < 10


def test_what_does_not_finish_in_time_is_told_that_the_server_went_away(logit: LocalModel) -> None:
    with holding(logit) as held:
        [waiting] = held.fill(1)
        started = time.monotonic()
        held.server.drain(0.2)
        assert time.monotonic() - started < 10
        held.scorer.release.set()
        try:
            response = waiting.result(timeout=30)
        except httpx.TransportError:
            return
        assert response.status_code == 503
        assert response.headers["x-rm-grpc-reason"] == "DRAINING"


# --- callers that go away ---------------------------------------------------------------------------------------------


def test_a_caller_that_goes_away_takes_its_items_back(logit: LocalModel) -> None:
    with holding(logit) as held:
        first = held.fill(2)
        for path, body in BODIES.values():
            leave(held.server, path, json.dumps(body).encode(), until=lambda: held.waiting == 3)
            wait_until(lambda: held.waiting == 2)
        held.scorer.release.set()
        assert [future.result().status_code for future in first] == [200, 200]
        assert len(held.scorer.batches) == 2, "the replica saw nothing of what nobody waited for"


def test_a_caller_that_leaves_before_the_first_line_takes_its_items_back(logit: LocalModel) -> None:
    with holding(logit) as held:
        held.fill(2)
        leave(held.server, "/v1/score_batch", b'{"text": "a"}\n' * 5, until=lambda: held.waiting == 7)
        wait_until(lambda: held.waiting == 2)


def test_a_caller_that_leaves_between_lines_takes_its_items_back(logit: LocalModel) -> None:
    with holding(logit) as held:
        held.fill(2)
        with caller(held.server) as client:
            body = b"not a line\n" + b'{"text": "a"}\n' * 5
            with client.stream("POST", "/v1/score_batch", content=body) as response:
                read = response.iter_lines()
                assert json.loads(next(read))["error"]["reason"] == "INVALID_REQUEST"
                wait_until(lambda: held.waiting == 7)
        wait_until(lambda: held.waiting == 2)


def test_a_caller_that_leaves_in_the_middle_of_its_body_leaves_nothing(logit: LocalModel) -> None:
    """Twice as many bytes as there is room for, and then there is room again."""
    with ServerThread([logit], http="127.0.0.1:0", queue_bytes=20_000) as server:
        host, _, port = server.http_address.rpartition(":")
        for _ in range(8):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(b"POST /classify HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n" + b"x" * 5000)
        body = {"messages": CHAT, "user": "x" * 15_000}
        wait_until(lambda: post(server, "/classify", body).status_code == 200)


# --- lines ------------------------------------------------------------------------------------------------------------


def test_results_of_lines_come_as_they_finish(logit: LocalModel) -> None:
    """What is held does not hold back an error, nor what is behind it once one is done."""

    class FirstHeld(HeldScorer):
        def prepare(self, conversations: Any, /) -> Any:
            if any(len(one.ids) > 100 for one in conversations):
                return super().prepare(conversations)
            return self.inner.prepare(conversations)

    release = threading.Event()
    scorer = FirstHeld(logit.scorer)
    scorer.release = release
    lines = [json.dumps({"text": "a"}), "{", json.dumps({"text": "word " * 200}), json.dumps({"text": LONG})]
    with (
        ServerThread([with_scorer(logit, scorer)], http="127.0.0.1:0", max_batch_tokens=1) as server,
        caller(server) as client,
    ):
        try:
            with client.stream("POST", "/v1/score_batch", content="\n".join(lines).encode()) as response:
                assert response.headers["content-type"].startswith("application/x-ndjson")
                read = response.iter_lines()
                early = [json.loads(next(read)) for _ in range(3)]
                assert {line["line"] for line in early} == {0, 1, 3}
                assert not release.is_set()
                release.set()
                [last] = [json.loads(line) for line in read]
        finally:
            release.set()
    assert last["line"] == 2
    assert "score" in last
    reasons = {line["line"]: line.get("error", {}).get("reason") for line in early}
    assert reasons == {0: None, 1: "INVALID_REQUEST", 3: "CONVERSATION_TOO_LONG"}


# --- start ------------------------------------------------------------------------------------------------------------


def test_an_address_that_is_taken_is_an_error_of_the_start(logit: LocalModel) -> None:
    with ServerThread([logit], http="127.0.0.1:0") as server:
        taken = server.http_address
        other = ServerThread([logit], http=taken)
        try:
            with pytest.raises(StartupError, match=f"http: {taken} cannot be taken"):
                other.__enter__()
        finally:
            other._loop.call_soon_threadsafe(other._loop.stop)
            other._thread.join()
            other._loop.close()
        assert post(server, "/classify", {"messages": CHAT}).status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "no.such.host.invalid:0"])
def test_an_address_that_is_none_is_an_error_of_the_start(logit: LocalModel, address: str) -> None:
    server = ServerThread([logit], http=address, insecure=True)
    try:
        with pytest.raises((StartupError, ConfigError), match="http"):
            server.__enter__()
    finally:
        server._loop.call_soon_threadsafe(server._loop.stop)
        server._thread.join()
        server._loop.close()


def test_http_is_served_where_it_is_asked_for_only(logit: LocalModel) -> None:
    with ServerThread([logit]) as server:
        assert server.http_address == ""
    with ServerThread([logit], http="[::1]:0") as server:
        assert server.http_address.startswith("[::1]:")
        assert post(server, "/classify", {"messages": CHAT}).status_code == 200


def test_http_beyond_this_machine_must_be_asked_for(tmp_path: Path) -> None:
    for address in ("0.0.0.0:80", "[::]:80", "10.0.0.1:80"):
        with pytest.raises(ConfigError, match=r"http: .* can be reached from other machines; encrypt .* insecure"):
            load_settings(flags={"http": address}, environ={})
        assert load_settings(flags={"http": address, "insecure": True}, environ={}).http == address
    assert load_settings(flags={"http": "127.0.0.1:80"}, environ={}).http == "127.0.0.1:80"
    assert load_settings(environ={"RM_GRPC_HTTP": "[::1]:80"}).http == "[::1]:80"
    assert load_settings(environ={}).http == ""


def test_the_process_writes_both_addresses_and_serves_both(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path, "--http=127.0.0.1:0")
    try:
        grpc_address, http_address = process.wait().split("\n")
        with RewardClient(grpc_address, model=MODEL) as client:
            [score] = client.score([CHAT])
        with httpx.Client(base_url=f"http://{http_address}", trust_env=False, verify=False, timeout=60) as client:
            assert client.get("/health").json()["ready"] is True
            answer = client.post("/classify", json={"messages": CHAT}).json()
    finally:
        log = process.stop()
    assert answer["data"][0]["probs"] == [score.score]
    assert process.process.returncode == 0
    assert f"http://{http_address}/openapi.json" in log
    assert "Traceback" not in log


def test_a_kept_connection_answers_as_fast_as_a_new_one(logit: LocalModel) -> None:
    """Where small packets wait for each other, each answer on a kept connection takes 40 ms more."""
    with ServerThread([logit], http="127.0.0.1:0") as server, caller(server) as client:
        client.get("/v1/health/live")
        started = time.monotonic()
        for _ in range(100):
            assert client.get("/v1/health/live").status_code == 200
        assert time.monotonic() - started < 2.5


def test_grpc_and_http_agree_while_both_are_busy(logit: LocalModel) -> None:
    with ServerThread([logit], http="127.0.0.1:0", max_batch_tokens=1) as server, ThreadPoolExecutor(4) as threads:
        expected = alone(server, MODEL, CHAT).score
        over_http = threads.map(
            lambda _: post(server, "/classify", {"messages": CHAT}).json()["data"][0]["probs"][0], range(20)
        )
        over_grpc = threads.map(lambda _: alone(server, MODEL, CHAT).score, range(20))
        assert {*over_http, *over_grpc} == {expected}
