"""A judge served as anybody serves it: a configuration file, a process, gRPC, and a real HTTP endpoint behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from services.openai_endpoint import OpenAIEndpoint, Reply, Seen
from services.server import ServerProcess

from rm_grpc import errors
from rm_grpc.types import Conversation, Item
from rm_grpc_client import RewardClient

KEY = "very-secret"


def item(answer: str, **metadata: Any) -> Item:
    messages = [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": answer}]
    return Item("", Conversation.from_openai(messages), metadata=metadata)


def reply(request: Seen, number: int) -> Reply:
    """By what the answer says: a rating, trouble, or a comparison of lengths."""
    if "[Client Question]" in request.prompt:
        first, second = (part.split("\n[The End")[0] for part in request.prompt.split("'s Response]\n")[1:4:2])
        return Reply(f"<answer>[[{'A' if len(first) > len(second) else 'B'}]]</answer>")
    answer = request.prompt.split("[The Start of the Answer]\n")[1].split("\n[The End")[0]
    known = {
        "mute": Reply("I had rather not say."),
        "long": Reply("It seems that", finish_reason="length"),
        "broken": Reply(status=500),
        "refused": Reply("too long for me", status=400),
        "garbage": Reply(how="garbage"),
        "silent": Reply(how="hang"),
    }
    return known.get(answer, Reply(f"Rating: [[{answer}]]", delay=0.02))


class JudgeServer(ServerProcess):
    """`rm-grpc serve --config` of judges alone."""

    def __init__(self, folder: Path, models: Mapping[str, Mapping[str, Any]], **env: str) -> None:
        file = folder / "server.yaml"
        told = [{"name": name, "scorer": {"kind": "judge", **scorer}} for name, scorer in models.items()]
        file.write_text(yaml.safe_dump({"listen": "127.0.0.1:0", "models": told}))
        super().__init__(folder, f"--config={file}", env={**os.environ, **env})

    def __enter__(self) -> JudgeServer:
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[OpenAIEndpoint]:
    with OpenAIEndpoint(reply, key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def address(endpoint: OpenAIEndpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    common = {"base_url": endpoint.url, "model": "judge", "api_key_env": "JUDGE_KEY", "concurrency": 6}
    models = {
        "rating": {**common, "attempts": 2, "timeout_seconds": 0.5},
        "pairs": {**common, "style": "rm_r1"},
        "sampled": {**common, "samples": 4, "vote": "majority"},
    }
    with JudgeServer(tmp_path_factory.mktemp("judge"), models, JUDGE_KEY=KEY) as server:
        yield server.wait()


def test_scores_and_errors_stand_side_by_side(address: str) -> None:
    answers = ["7", "mute", "3", "long", "broken", "refused", "garbage", "silent", "10", "11"]
    with RewardClient(address, model="rating", timeout=60, reconnect=1.0) as client:
        results = client.score([item(answer) for answer in answers], on_error="return")
    told = [result.score.score if result.error is None else type(result.error).__name__ for result in results]
    unparsable, unavailable, failed = "UnparsableVerdictError", "UnavailableError", "ScorerFailedError"
    assert told == [7.0, unparsable, 3.0, unparsable, unavailable, failed, failed, unavailable, 10.0, unparsable]
    assert results[1].error is not None
    assert results[1].error.metadata["excerpt"] == "I had rather not say."
    assert KEY not in str([result.error for result in results])
    score = results[0].score
    assert score.attributes == {"samples": 1, "parsed": 1, "truncated": 0, "completion_tokens": 7, "stdev": 0}


def test_pairs_need_a_rival_and_tell_what_the_order_did(address: str) -> None:
    with RewardClient(address, model="pairs", timeout=60) as client:
        results = client.score(
            [item("the longer", rival="short"), item("alone"), item("even", rival="evil")], on_error="return"
        )
    assert results[0].score.score == 1.0
    assert results[0].score.attributes["swap_inconsistent"] == 0.0
    assert type(results[1].error) is errors.InvalidRequestError
    assert results[1].error.field.endswith("metadata.rival")
    assert results[2].score.score == 0.5
    assert results[2].score.attributes["swap_inconsistent"] == 1.0


def test_a_model_tells_how_it_is_asked_and_no_secret(address: str) -> None:
    with RewardClient(address, timeout=60) as client:
        models = {model.name: model for model in client.list_models()}
    told = json.loads(models["pairs"].settings_json)["scorer"]
    assert told["model"] == "judge"
    assert "[Client Question]" in told["messages"][0]["content"]
    assert models["pairs"].scorer_kind == "judge"
    assert models["pairs"].attribute_names[-3:] == ("first_order", "second_order", "swap_inconsistent")
    assert "prompt_file" in models["pairs"].notes[0]
    assert KEY not in str(models)
    assert len({model.model_digest for model in models.values()}) == 3


def test_many_items_keep_to_the_limit_of_calls(address: str, endpoint: OpenAIEndpoint) -> None:
    endpoint.most_at_once = 0
    with RewardClient(address, model="sampled", timeout=60) as client:
        scores = client.score([item(str(1 + at % 10)) for at in range(40)])
    assert [score.score for score in scores] == [1 + at % 10 for at in range(40)]
    assert endpoint.most_at_once == 6


def test_an_endpoint_that_goes_and_comes_back(tmp_path: Path) -> None:
    with OpenAIEndpoint(Reply("Rating: [[5]]")) as first:
        port = int(first.url.removesuffix("/v1").rpartition(":")[2])
        server = JudgeServer(tmp_path, {"rating": {"base_url": first.url, "model": "judge", "attempts": 1}})
        address = server.wait()
    with server, RewardClient(address, model="rating", timeout=60, reconnect=0.1) as client:
        [down] = client.score([item("x")], on_error="return")
        assert type(down.error) is errors.UnavailableError
        with OpenAIEndpoint(Reply("Rating: [[6]]"), port=port):
            [up] = client.score([item("x")])
    assert up.score == 6.0


def test_a_server_whose_judge_is_not_there_says_so_and_ends(tmp_path: Path) -> None:
    with JudgeServer(tmp_path, {"rating": {"base_url": "http://127.0.0.1:1/v1", "model": "judge"}}) as server:
        log = server.process.communicate(timeout=60)[1]
    assert server.process.returncode != 0
    assert "scorer.base_url: http://127.0.0.1:1/v1/models cannot be reached" in log
    assert "Traceback" not in log
