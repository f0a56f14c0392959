"""Scoring logic from outside, in real processes, over gRPC: what it gets, and what it may give back."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services.opened import OpenedServer, external, item

from rm_grpc import errors
from rm_grpc.types import Conversation, Item, TokenIds
from rm_grpc_client import RewardClient


@pytest.fixture(scope="module")
def server() -> Iterator[OpenedServer]:
    """Scorers that nothing is done to which others would notice."""
    models = [
        external("length"),
        external("all_that_came"),
        external("Odd", batch_items=4),
        external("Rich", attributes=["length", "flag"]),
        external("wrong_shape"),
        external("slow", batch_items=1),
    ]
    with OpenedServer(models) as running:
        yield running


# --- what it is given -------------------------------------------------------------------------------------------------


def test_it_gets_everything_that_the_caller_sent(server: OpenedServer) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "function": {"name": "add", "arguments": '{"a": 2}'}}],
        },
        {"role": "tool", "content": "4", "tool_call_id": "1"},
        {"role": "assistant", "content": "<|im_start|>4", "reasoning_content": "easy"},
    ]
    metadata = {"answer": "4", "prompt_id": 7, "nested": {"a": [1, None, True]}}
    sent = Item("", Conversation.from_openai(messages, tools='[{"type": "function"}]'), group="g", metadata=metadata)
    [result] = server.results("all_that_came", sent)
    assert isinstance(result.error, errors.InvalidRequestError)
    assert json.loads(result.error.message) == {
        "roles": ["system", "user", "assistant", "tool", "assistant"],
        "prompt": ["be brief", "2+2?", "", "4"],
        "calls": [["add", '{"a": 2}']],
        "reasoning": ["", "", "", "", "easy"],
        "tools": '[{"type": "function"}]',
        "metadata": metadata,
        "group": "g",
        "thread": True,
        "devices": "",
    }


def test_it_sees_the_devices_that_it_claimed_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rm_grpc_server.opening.count_gpus", lambda: 64)
    with OpenedServer([{**external("all_that_came"), "devices": "cuda:62,63 2 per replica"}]) as running:
        [result] = running.results("all_that_came", "a")
        assert running.models[0].info.device == "cuda:62, cuda:63"
    assert json.loads(str(result.error))["devices"] == "62,63"


def test_it_reads_conversations_only(server: OpenedServer) -> None:
    given = (Item("", "plain text"), Item("", TokenIds([1, 2], "digest")), item("abc"), Item("", Conversation(())))
    results = server.results("length", *given)
    assert [type(result.outcome).__name__ for result in results] == [
        "InvalidRequestError",
        "InvalidRequestError",
        "Score",
        "NoMessagesError",
    ]
    assert "reads conversations" in str(results[0].error)


def test_batches_are_formed_and_no_larger_than_asked_for(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with OpenedServer([external("Noted", args={"file": str(notes), "weight": 2.0}, batch_items=5)]) as running:
        scores = running.outcomes("Noted", *("x" * at for at in range(1, 41)))
    assert scores == [2.0 * at for at in range(1, 41)]
    lines = [line.split() for line in notes.read_text().splitlines()]
    told = [line[0] for line in lines]
    assert told[:2] == ["made", "warm"]
    assert told[-1] == "closed", "it was given time to close when the server went down"
    sizes = [int(size) for size in told[2:-1]]
    assert sum(sizes) == 40
    assert max(sizes) == 5
    assert len(sizes) <= 12, "what waited while one was scored went together"
    assert {line[1] for line in lines} == {"True"}, "all of its life is on the main thread"


def test_coroutines_have_one_loop_and_one_request_a_call(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with OpenedServer([external("NotedAsync", args={"file": str(notes)})]) as running:
        assert running.outcomes("NotedAsync", *("x" * at for at in range(1, 33))) == list(range(1, 33))
        described = json.loads(running.models[0].info.settings_json)["scorer"]
    told = [line.split()[0] for line in notes.read_text().splitlines()]
    assert [one for one in told if one != "over"] == ["made", "warm", *["one"] * 32, "closed"]
    assert told.index("over") > told.index("one") + 1, "several were in flight"
    assert described["source_digest"].startswith("sha256:")


def test_a_slow_coroutine_holds_up_nobody(server: OpenedServer) -> None:
    with RewardClient(server.address, model="slow") as client:
        begin = time.monotonic()
        results = client.score_stream(map(item, ["1.5", *["0.05"] * 10, "0.5"]))
        arrived = [(result.index, time.monotonic() - begin) for result in results]
    assert [index for index, _ in arrived][-2:] == [11, 0]
    assert max(seconds for _, seconds in arrived[:10]) < 0.5
    assert arrived[-1][1] < 2.0


def test_functions_run_at_a_time_where_asked_to() -> None:
    model = external("fails", one_by_one=False, batch_items=1, concurrency=4)
    with OpenedServer([model], hang_seconds=20.0) as running:
        running.hang("fails")
        time.sleep(0.3)
        begin = time.monotonic()
        assert running.outcomes("fails", "a", "bb", "ccc") == [1.0, 2.0, 3.0]
        assert time.monotonic() - begin < 5.0
        os.killpg(running.pid(), signal.SIGKILL)


# --- what it may give back --------------------------------------------------------------------------------------------


def test_attributes_and_steps(server: OpenedServer) -> None:
    [result] = server.results("Rich", "abc")
    assert result.score.score == 0.5
    assert result.score.attributes == {"length": 3.0, "flag": 1.0}
    assert [(step.score, step.char_start, step.char_end) for step in result.score.steps] == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]
    [described] = [model.info for model in server.models if model.info.name == "Rich"]
    assert described.attribute_names == ("length", "flag")


@pytest.mark.parametrize("given", [("true", 1.0), ("int", 3.0), ("numpy", 2.5), ("array", 4.0), ("torch", 1.5), ("most", 1.0)])
def test_numbers_of_other_libraries(server: OpenedServer, given: tuple[str, float]) -> None:
    assert server.outcomes("Odd", given[0]) == [given[1]]


ODD = {
    "none": "is None where a number",
    "text": "is '1.5' where a number",
    "nan": "ScoreNotFiniteError: the score is nan",
    "inf": "ScoreNotFiniteError: the score is inf",
    "huge": "ScoreNotFiniteError: the score is 1e+300",
    "vast": "ScoreNotFiniteError: the score is inf",
    "list": "is [1.0] where a number",
    "complex": "is 1j where a number",
    "two": "array([1., 2.])",
    "hostile": "KeyError",
    "long text": "is 'xxx",
    "nan attribute": "ScoreNotFiniteError: the attribute 'a' is nan",
    "text attribute": "the attribute 'a' is 'b' where a number",
    "odd name": "name must be text of at most 64 bytes, not 5",
    "half name": "surrogates",
    "many attributes": "at most 256",
    "many steps": "at most 1024",
    "odd step": "steps[0] spans from 5 to -1",
    "lambda": "function",
    "own error": "TemplateRefusedError: conversation: refused here",
    "large error": "an error of 1000",
}


def test_what_is_no_score_is_an_error_of_its_own_request(server: OpenedServer) -> None:
    results = server.results("Odd", *ODD, "int")
    assert results[-1].score.score == 3.0
    for (name, told), result in zip(ODD.items(), results, strict=False):
        shown = f"{type(result.error).__name__}: {result.error}"
        assert told in shown, name
        assert len(shown) < 900
        if ":" not in told:
            assert type(result.error) is errors.ScorerFailedError, name


def test_the_largest_verdicts_fit_into_messages(server: OpenedServer) -> None:
    results = server.results("Odd", *["most"] * 300)
    assert [len(result.score.attributes) for result in results] == [256] * 300


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ("short", "0 outcomes for 1 requests"),
        ("long", "more than 1 outcomes for 1 requests"),
        ("number", "one_by_one"),
        ("digits", "where a list"),
        ("mapping", "where a list"),
        ("endless", "more than 1"),
    ],
)
def test_a_wrong_shape_concerns_one_request_only(server: OpenedServer, shape: str, told: str) -> None:
    results = server.results("wrong_shape", "a", "bb", shape, "dddd", "array")
    assert [result.error is None for result in results] == [True, True, False, True, True]
    assert isinstance(results[2].error, errors.ScorerFailedError)
    assert told in str(results[2].error)
