"""What adapters make of a model that gives several numbers: each trainer gets them by name, in its own way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from services.opened import OpenedServer

from rm_grpc_client import RewardClient
from rm_grpc_client.adapters import openrlhf, slime, verl
from rm_grpc_client.adapters.nemo_rl import RewardModelEnvironment
from rm_grpc_client.adapters.trl import reward_function

INTERFACES = Path(__file__).parents[1] / "services" / "trainers"
PROMPT = [{"role": "user", "content": "What is 7+5?"}]
RENDERED = "<|im_start|>user\nWhat is 7+5?<|im_end|>\n<|im_start|>assistant\n"
ANSWER = "7+5=12"
MODELS = [
    {"path": "embedded:arithmetic-logit", "name": "logit"},
    {"path": "embedded:arithmetic-classifier", "name": "classifier"},
    {
        "name": "mixed",
        "scorer": {
            "kind": "ensemble",
            "components": {"first": {"model": "logit"}, "second": {"model": "classifier", "weight": 2}},
        },
    },
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with OpenedServer(MODELS) as running:
        yield running.address


@pytest.fixture(scope="module")
def expected(address: str) -> dict[str, float]:
    with RewardClient(address, model="mixed") as client:
        [score] = client.score([[*PROMPT, {"role": "assistant", "content": ANSWER}]])
    assert set(score.attributes) == {"first", "second"}
    return {**score.attributes, "score": score.score}


@pytest.fixture
def given(address: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("RM_GRPC_CLIENT_ADDRESSES", address)
    monkeypatch.setenv("RM_GRPC_CLIENT_MODEL", "mixed")
    return {"addresses": address, "model": "mixed"}


async def test_by_name_in_each_trainers_way(given: dict[str, str], expected: dict[str, float]) -> None:
    reward = reward_function(component="second", **given)
    assert await reward(prompts=[PROMPT], completions=[ANSWER]) == [pytest.approx(expected["second"], abs=1e-5)]
    found = await verl.compute_score("sums", ANSWER, "12", {"prompt": PROMPT}, **given)
    assert found == pytest.approx(expected, abs=1e-5)
    sample = SimpleNamespace(prompt=PROMPT, response=ANSWER, label=None, metadata={})
    assert await slime.reward(SimpleNamespace(reward_key="score"), sample) == pytest.approx(expected, abs=1e-5)
    logged = await asyncio.to_thread(openrlhf.reward_func, [RENDERED + ANSWER], [RENDERED], [None])
    assert logged["rewards"] == pytest.approx(expected["score"], abs=1e-5)
    assert logged["extra_logs"] == pytest.approx({"first": expected["first"], "second": expected["second"]}, abs=1e-5)


async def test_nemo_rl_gets_a_dict_of_rewards(
    given: dict[str, str], expected: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(INTERFACES))
    log = [{"role": "user", "content": RENDERED}, {"role": "assistant", "content": ANSWER}]
    environment = RewardModelEnvironment({**given, "components": True})
    returned = await environment.step([log, log], [{}, {"messages": PROMPT}], True)
    assert {key: values.tolist() for key, values in returned.rewards.items()} == {
        "reward/first": pytest.approx([expected["first"]] * 2, abs=1e-5),
        "reward/second": pytest.approx([expected["second"]] * 2, abs=1e-5),
    }
    assert returned.terminateds.tolist() == [True, True]
    assert returned.answers == [ANSWER, ANSWER]
    assert all(observation["content"] for observation in returned.observations)
    with pytest.raises(ValueError, match="no numbers beside the score"):
        await RewardModelEnvironment({**given, "model": "logit", "components": True}).step([log], [{}])
