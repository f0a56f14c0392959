"""What adapters make of failures, settings, columns, threads, loops and forks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from services.server import ServerThread

from rm_grpc import errors
from rm_grpc_client import RewardClient
from rm_grpc_client.adapters import areal, openrlhf, shared, slime, verl
from rm_grpc_client.adapters.trl import reward_function
from rm_grpc_client.settings import ClientSettings

MODEL = "arithmetic-logit"
PROMPT = [{"role": "user", "content": "What is 7+5?"}]
RENDERED = "<|im_start|>user\nWhat is 7+5?<|im_end|>\n<|im_start|>assistant\n"
BAD = "12<|eot_id|>"  # carries the reward model's own end of turn


@pytest.fixture
def given(server: ServerThread, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("RM_GRPC_CLIENT_ADDRESSES", server.address)
    monkeypatch.setenv("RM_GRPC_CLIENT_MODEL", MODEL)
    return {"addresses": server.address, "model": MODEL}


@pytest.fixture(scope="module")
def expected(server: ServerThread) -> float:
    with RewardClient(server.address, model=MODEL) as client:
        return client.score([[*PROMPT, {"role": "assistant", "content": "7+5=12"}]])[0].score


async def test_trl_leaves_out_what_cannot_be_scored(given: dict[str, str], expected: float) -> None:
    logged: dict[str, float] = {}
    reward = reward_function(given["addresses"], model=MODEL)
    completions: list[Any] = [[{"role": "assistant", "content": text}] for text in ("7+5=12", BAD, "7+5=12")]
    found = await reward(
        prompts=[PROMPT] * 3,
        completions=completions,
        completion_ids=[[1]] * 3,
        log_metric=logged.__setitem__,
        trainer_state=None,
    )
    assert found == [pytest.approx(expected, abs=1e-5), None, pytest.approx(expected, abs=1e-5)]
    assert logged["rm_grpc/error_rate"] == pytest.approx(1 / 3)
    assert logged["rm_grpc/errors/CONTROL_TOKENS_IN_CONTENT"] == 1
    picture = [{"role": "assistant", "content": [{"type": "image"}]}]
    assert await reward(prompts=[PROMPT], completions=[picture]) == [None]
    with pytest.raises(KeyError, match="helpfulness"):
        await reward_function(given["addresses"], model=MODEL, component="helpfulness")(prompts=[PROMPT], completions=["12"])
    texts = await reward(prompts=["What is 7+5?"], completions=["7+5=12"])
    assert texts == [pytest.approx(expected, abs=1e-5)]
    assert reward.__name__ == "rm_grpc"


async def test_trl_raises_where_nothing_can_be_scored(given: dict[str, str]) -> None:
    reward = reward_function(given["addresses"], model="nobody")
    with pytest.raises(errors.ModelNotFoundError):
        await reward(prompts=[PROMPT], completions=["7+5=12"])
    reward = reward_function(given["addresses"], model=MODEL, columns=["answer"])
    with pytest.raises(errors.InvalidRequestError, match="no such column"):
        await reward(prompts=[PROMPT], completions=["7+5=12"])


async def test_trainers_without_a_mask_raise(given: dict[str, str], expected: float) -> None:
    with pytest.raises(errors.ControlTokensError):
        await verl.compute_score("sums", BAD, "12", {"prompt": PROMPT}, **given)
    with pytest.raises(errors.InvalidRequestError, match="prompt_key"):
        await verl.compute_score("sums", "7+5=12", "12", {"question": "What is 7+5?"}, **given)
    found = await verl.compute_score("sums", "7+5=12", "12", {"question": "What is 7+5?"}, prompt_key="question", **given)
    assert found == {"score": pytest.approx(expected, abs=1e-5)}
    with pytest.raises(errors.ControlTokensError):
        await slime.reward(
            SimpleNamespace(), SimpleNamespace(prompt=PROMPT, response="a<|eot_id|>b", label=None, metadata=None)
        )
    with pytest.raises(errors.ControlTokensError):
        await asyncio.to_thread(openrlhf.reward_func, [RENDERED + "a<|eot_id|>b"], [RENDERED], [None])
    with pytest.raises(errors.NoResponseError):
        await asyncio.to_thread(openrlhf.reward_func, ["no marks at all"], ["another"], [None])
    with pytest.raises(errors.ControlTokensError):
        await asyncio.to_thread(areal.reward_fn, RENDERED, "a<|eot_id|>b", [], [], messages=PROMPT)
    assert await areal.reward(PROMPT, BAD, **given) is None
    assert await areal.reward(PROMPT, "7+5=12", **given) == pytest.approx(expected, abs=1e-5)


def test_each_event_loop_may_be_new(given: dict[str, str], expected: float) -> None:
    reward = reward_function(given["addresses"], model=MODEL)
    for _ in range(3):
        assert asyncio.run(reward(prompts=[PROMPT], completions=["7+5=12"])) == [pytest.approx(expected, abs=1e-5)]


def test_threads_share_one_connection(given: dict[str, str], expected: float) -> None:
    def score(_: int) -> float:
        return areal.reward_fn("", "7+5=12", [], [], messages=PROMPT)

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(score, range(64)))
    assert found == pytest.approx([expected] * 64, abs=1e-5)
    assert shared.environment(given) is shared.environment(dict(given))


FORK = """
import os, sys
from rm_grpc_client.adapters import areal

def score():
    return areal.reward_fn("", "7+5=12", [], [], messages=[{"role": "user", "content": "What is 7+5?"}])

if sys.argv[1] == "after":
    score()
sys.stdout.flush()
if not os.fork():
    try:
        print("scored", score(), flush=True)
    except Exception as error:
        print("refused", error, flush=True)
    os._exit(0)
os.wait()
print("scored", score())
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_forked_process_asks_only_where_its_parent_has_not(given: dict[str, str], expected: float, when: str) -> None:
    # With grpc's own handlers of forks the child of a process that used it sometimes dies by itself, whatever it does.
    env = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"}
    done = subprocess.run([sys.executable, "-c", FORK, when], capture_output=True, text=True, timeout=60, check=True, env=env)
    child, parent = done.stdout.strip().splitlines()
    assert float(parent.removeprefix("scored ")) == pytest.approx(expected, abs=1e-5)
    if when == "before":
        assert float(child.removeprefix("scored ")) == pytest.approx(expected, abs=1e-5)
    else:
        assert "spawn" in child.removeprefix("refused ")


def test_settings_come_from_code_before_the_environment() -> None:
    environ = {"RM_GRPC_CLIENT_ADDRESSES": "a:1, b:2", "RM_GRPC_CLIENT_TIMEOUT": "7.5", "RM_GRPC_LISTEN": "of the server"}
    settings = ClientSettings.of({"model": "m", "timeout": 3}, environ)
    assert settings == ClientSettings(addresses=("a:1", "b:2"), model="m", timeout=3.0)
    assert ClientSettings.of({}, {}) == ClientSettings()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"adresses": "a:1"}, "adresses"),
        ({"addresses": " , "}, "addresses"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": "nan"}, "timeout"),
        ({"hedge_after": "-3"}, "hedge_after"),
        ({"routing": "random"}, "routing"),
        ({"control_tokens": "keep"}, "control_tokens"),
        ({"tls": "yes"}, "tls"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidRequestError) as caught:
        ClientSettings.of(given, {})
    assert caught.value.field == field
    with pytest.raises(errors.InvalidRequestError):
        ClientSettings.of({}, {f"RM_GRPC_CLIENT_{key.upper()}": value for key, value in given.items()})


@pytest.mark.parametrize(
    ("given", "field"),
    [({"tls": 1}, "tls"), ({"insecure": ["true"]}, "insecure"), ({"model": True}, "model"), ({"timeout": True}, "timeout")],
)
def test_only_switches_are_yes_or_no(given: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidRequestError) as caught:
        ClientSettings.of(given, {})
    assert caught.value.field == field
    assert ClientSettings.of({"tls": True, "insecure": "false"}, {}).security.is_encrypted


def test_messages_come_in_the_containers_that_trainers_have() -> None:
    import numpy as np

    messages = np.empty(1, dtype=object)
    messages[0] = PROMPT[0]
    assert shared.item(messages, "a") == shared.item(PROMPT, "a") == shared.item("What is 7+5?", "a")
    assert shared.item(RENDERED, "a<|im_end|>", rendered=True) == shared.item(PROMPT, "a")
    with pytest.raises(errors.InvalidRequestError, match="prompt"):
        shared.item(7, "a")
    with pytest.raises(errors.InvalidRequestError, match="response"):
        shared.item(PROMPT, None)
