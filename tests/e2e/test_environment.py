"""The reward environment, over real servers: one, several, some of which die."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from services.models import HeldScorer, LocalModel, WrappedScorer, with_scorer
from services.server import ServerProcess, ServerThread

from rm_grpc import errors
from rm_grpc.types import Conversation, Item
from rm_grpc_client import Reward, RewardClient, RewardEnvironment, Shaping, SyncRewardEnvironment

MODEL = "arithmetic-logit"


def answer(prompt: str, response: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]


def answers(count: int) -> list[list[dict[str, str]]]:
    return [answer(f"What is {at}+1?", f"{at}+1={at + 1}") for at in range(count)]


@pytest.fixture(scope="module")
def expected(server: ServerThread) -> list[float]:
    with RewardClient(server.address, model=MODEL) as client:
        return [score.score for score in client.score(answers(64))]


class CountingScorer(WrappedScorer):
    """Counts the conversations that it scores."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.count = 0

    def prepare(self, conversations: Any, /) -> Any:
        self.count += len(conversations)
        return super().prepare(conversations)


def values(rewards: list[Reward]) -> list[float | None]:
    return [reward.value for reward in rewards]


# --- one server -------------------------------------------------------------------------------------------------------


async def test_failures_are_masked_or_raised_and_never_a_number(server: ServerThread) -> None:
    given: list[Any] = [answers(1)[0], [], 7, answers(1)[0]]
    async with RewardEnvironment(server.address, model=MODEL, failures="none") as environment:
        masked = await environment.rewards(given)
        assert [reward.value is None for reward in masked] == [False, True, True, False]
        assert isinstance(masked[1].error, errors.NoMessagesError)
        figures = environment.metrics()
        assert (figures["count"], figures["error_rate"]) == (4, 0.5)
        assert figures["errors/NO_MESSAGES"] == 1
    async with RewardEnvironment(server.address, model=MODEL) as environment:
        with pytest.raises(errors.NoMessagesError):
            await environment.rewards(given)


async def test_what_concerns_all_is_raised_though_failures_are_masked(server: ServerThread) -> None:
    async with RewardEnvironment(server.address, model="nobody", failures="none") as environment:
        with pytest.raises(errors.ModelNotFoundError):
            await environment.rewards(answers(2))
    async with RewardEnvironment("127.0.0.1:1", failures="none", reconnect=0.3) as environment:
        with pytest.raises(errors.UnavailableError):
            await environment.rewards(answers(2))


async def test_rewards_are_centred_by_prompt(server: ServerThread) -> None:
    given: list[Any] = [
        answer("1+1?", "2"),
        answer("2+2?", "4"),
        answer("1+1?", "3"),
        answer("1+1?", "<|eot_id|>"),
        Item("", "some text"),
        Item("", "some other text", group="texts"),
        Item("", "a third text", group="texts"),
        7,
    ]
    async with RewardEnvironment(server.address, model=MODEL, failures="none") as environment:
        plain = values(await environment.rewards(given))
    async with RewardEnvironment(
        server.address, model=MODEL, failures="none", shaping=Shaping(centring="prompt")
    ) as environment:
        centred = values(await environment.rewards(given))
        pending = environment.submit_group(given[:3])
        assert values([await one for one in pending]) == pytest.approx(
            values(await environment.rewards(given[:3]))  # type: ignore[arg-type]  # none of them failed
        )
        with pytest.raises(ValueError, match="centring"):
            _ = [reward async for reward in environment.stream(given)]
        with pytest.raises(ValueError, match="submit_group"):
            environment.submit(given[0])
    prompts = [0, 1, 0, 0, 2, 3, 3, 4]
    for prompt, before, after in zip(prompts, plain, centred, strict=True):
        of_prompt = [value for which, value in zip(prompts, plain, strict=True) if which == prompt and value is not None]
        assert after == (None if before is None else pytest.approx(before - sum(of_prompt) / len(of_prompt)))
    assert [value is None for value in centred] == [at in (3, 7) for at in range(8)]


async def test_what_is_submitted_while_generation_goes_on_comes_back_in_completion_order(
    logit: LocalModel, expected: list[float]
) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)]) as running:
        async with RewardEnvironment(running.address) as environment:
            pending = [environment.submit(one) for one in answers(6)]
            await asyncio.to_thread(held.started.wait, 10)
            assert not any(one.done for one in pending)
            pending += environment.submit_group(answers(8)[6:])
            held.release.set()
            rewards = [reward async for reward in environment.as_completed(pending)]
    assert sorted(reward.index for reward in rewards) == list(range(8))
    assert [reward.value for reward in sorted(rewards, key=lambda reward: reward.index)] == pytest.approx(
        expected[:8], abs=1e-5
    )


async def test_a_stream_is_scored_while_it_is_generated(server: ServerThread, expected: list[float]) -> None:
    asked = asyncio.Event()

    async def rollouts() -> AsyncIterator[Any]:
        for at, one in enumerate(answers(64)):
            if at == 32:
                await asked.wait()  # the first half must come back before the second is generated
            yield one

    seen: dict[int, float | None] = {}
    async with RewardEnvironment(server.address, model=MODEL) as environment:
        async for reward in environment.stream(rollouts()):
            seen[reward.index] = reward.value
            if len(seen) == 32:
                asked.set()
        figures = environment.metrics(reset=True)
        assert environment.metrics() == {"count": 0.0}
    assert [seen[at] for at in range(64)] == pytest.approx(expected, abs=1e-5)
    assert figures["score/mean"] == pytest.approx(sum(expected) / 64, abs=1e-4)
    assert figures["latency/p95"] > 0


async def test_what_is_cancelled_is_taken_back_from_the_server(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)], max_batch_tokens=64, fill_batch_tokens=32) as running:
        async with RewardEnvironment(running.address) as environment:
            first = environment.submit(answers(1)[0])
            await asyncio.to_thread(held.started.wait, 10)
            others = [environment.submit(one) for one in answers(40)[1:]]
            await asyncio.sleep(0.3)
            for one in others:
                one.cancel()
            await asyncio.sleep(0.3)
            held.release.set()
            assert (await first).value is not None
            assert (await environment.submit(answers(2)[1])).value is not None
    assert sum(held.batches) < 12  # one that was in work, those packed ahead, and the last


async def test_closing_ends_what_is_on_its_way(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)]) as running:
        environment = RewardEnvironment(running.address)
        pending = environment.submit(answers(1)[0])
        await asyncio.to_thread(held.started.wait, 10)
        await environment.close()
        with pytest.raises(errors.ItemCancelledError, match="closed"):
            await pending
        held.release.set()


async def test_an_environment_that_is_closed_takes_nothing(server: ServerThread) -> None:
    used, unused = (RewardEnvironment(server.address, model=MODEL) for _ in range(2))
    await used.rewards(answers(2))
    for environment in (used, unused):
        await environment.close()
        with pytest.raises(errors.ItemCancelledError, match="closed"):
            await asyncio.wait_for(environment.rewards(answers(1)), 10)


async def test_closing_while_servers_are_looked_for_ends_what_waits() -> None:
    environment = RewardEnvironment(["127.0.0.1:1", "127.0.0.1:2"], timeout=None)
    pending = [environment.submit(one) for one in answers(4)]
    await asyncio.sleep(4.5)  # both have failed, and are about to be tried again
    await environment.close()
    for one in pending:
        with pytest.raises(errors.RewardError):
            await asyncio.wait_for(one, 10)


async def test_a_deadline_holds_whatever_the_server_does(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)], window_items=8) as running:
        async with RewardEnvironment(running.address, failures="none", timeout=None) as environment:
            without = [environment.submit(one) for one in answers(16)]
            started = time.monotonic()
            late = [environment.submit(Item.of(one, timeout=0.5)) for one in answers(64)]
            rewards = [await one for one in late]
            took = time.monotonic() - started
            held.release.set()
            assert all([(await one).value is not None for one in without])
    assert {type(reward.error) for reward in rewards} == {errors.DeadlineExceededError}
    assert took < 6, took


async def test_pending_rewards_may_be_cancelled_at_once_and_as_a_group(logit: LocalModel) -> None:
    scorer = CountingScorer(logit.scorer)
    with ServerThread([with_scorer(logit, scorer)]) as running:
        async with RewardEnvironment(running.address, shaping=Shaping(centring="prompt")) as environment:
            for one in environment.submit_group(answers(8)):
                one.cancel()
            await asyncio.sleep(0.5)
        async with RewardEnvironment(running.address) as environment:
            environment.submit(answers(1)[0]).cancel()
            await asyncio.sleep(0.5)
    assert scorer.count == 0


async def test_odd_items_cost_the_others_nothing(server: ServerThread) -> None:
    odd: list[Any] = [Item("", "text", timeout="x"), answers(1)[0], Conversation(None)]  # type: ignore[arg-type]  # on purpose
    for shaping in (Shaping(), Shaping(centring="prompt")):
        async with RewardEnvironment(server.address, model=MODEL, failures="none", shaping=shaping) as environment:
            assert [reward.value is None for reward in await environment.rewards(odd)] == [True, False, True]


def test_choices_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="failures"):
        RewardEnvironment("a:1", failures="rase")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="routing"):
        RewardEnvironment("a:1", routing="nope")  # type: ignore[arg-type]  # on purpose


async def test_components_are_named(server: ServerThread) -> None:
    async with RewardEnvironment(server.address, model="arithmetic-classifier") as environment:
        [reward] = await environment.rewards([Item.of(answers(1)[0], id="mine")])
    assert reward.id == "mine"
    assert reward.score is not None
    assert reward.components == reward.score.attributes


# --- threads ----------------------------------------------------------------------------------------------------------


def test_threads_share_one_environment_and_their_calls_travel_together(
    server: ServerThread, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rm_grpc_server.transport.score_stream import ScoreStream

    messages: list[int] = []
    accept = ScoreStream._accept

    def counted(self: ScoreStream, message: Any) -> None:
        messages.append(len(message.items))
        accept(self, message)

    monkeypatch.setattr(ScoreStream, "_accept", counted)
    barrier = threading.Barrier(64)

    def score(at: int) -> float | None:
        barrier.wait()
        return environment.reward(answers(64)[at]).value

    with (
        SyncRewardEnvironment(RewardEnvironment(server.address, model=MODEL)) as environment,
        ThreadPoolExecutor(64) as threads,
    ):
        found = list(threads.map(score, range(64)))
        rounds = [list(threads.map(score, range(64))) for _ in range(3)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert all(one == pytest.approx(expected, abs=1e-5) for one in rounds)
    assert sum(messages) == 256
    assert len(messages) < 128, messages


def test_the_sync_form_has_lists_streams_and_futures(server: ServerThread, expected: list[float]) -> None:
    with SyncRewardEnvironment(RewardEnvironment(server.address, model=MODEL, failures="none")) as environment:
        assert values(environment.rewards(answers(8))) == pytest.approx(expected[:8], abs=1e-5)
        streamed = {reward.index: reward.value for reward in environment.stream(iter(answers(8)))}
        assert sorted(value for value in streamed.values() if value is not None) == pytest.approx(
            sorted(expected[:8]), abs=1e-5
        )
        assert environment.submit(answers(1)[0]).result(10).value == pytest.approx(expected[0], abs=1e-5)
        assert environment.get_model().name == MODEL
        assert environment.metrics(reset=True)["count"] == 17

        def broken() -> Iterator[Any]:
            yield from answers(4)
            raise LookupError("the caller's own")

        with pytest.raises(LookupError):
            list(environment.stream(broken()))
    with pytest.raises(RuntimeError, match="closed"):
        environment.reward(answers(1)[0])


# --- several servers --------------------------------------------------------------------------------------------------


async def test_several_servers_share_the_work(logit: LocalModel, expected: list[float]) -> None:
    scorers = [CountingScorer(logit.scorer) for _ in range(3)]
    with ExitStack() as stack:
        servers = [stack.enter_context(ServerThread([with_scorer(logit, scorer)])) for scorer in scorers]
        async with RewardEnvironment([one.address for one in servers]) as environment:
            found = await environment.rewards(answers(60))
    assert values(found) == pytest.approx(expected[:60], abs=1e-5)
    assert all(10 <= scorer.count <= 30 for scorer in scorers), [scorer.count for scorer in scorers]


async def test_a_group_goes_to_one_server(logit: LocalModel) -> None:
    seen: dict[int, set[str]] = {}

    class Noting(WrappedScorer):
        def __init__(self, inner: Any, number: int) -> None:
            super().__init__(inner)
            self.number = number

        def prepare(self, conversations: Any, /) -> Any:
            seen.setdefault(self.number, set()).update(str(one.ids[:20].tolist()) for one in conversations)
            return super().prepare(conversations)

    prompts = [
        f"{name} has {at} marbles and finds 1 more. How many?"
        for at, name in enumerate(["Tom", "Ann", "Bob", "Eve", "Sam", "Joe"])
    ]
    groups = [[answer(prompt, f"The answer is {at}.") for at in range(4)] for prompt in prompts]
    with ExitStack() as stack:
        servers = [stack.enter_context(ServerThread([with_scorer(logit, Noting(logit.scorer, at))])) for at in range(2)]
        async with RewardEnvironment([one.address for one in servers], routing="group") as environment:
            for group in groups:  # one after another: a server that is far busier hands over
                await environment.rewards(group)
    assert not seen.get(0, set()) & seen.get(1, set())
    assert sum(map(len, seen.values())) == len(groups)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[ServerProcess]]:
    folders = [tmp_path / str(at) for at in range(2)]
    for folder in folders:
        folder.mkdir()
    running = [ServerProcess(folder) for folder in folders]
    yield running
    for one in running:
        one.stop(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_no_item_is_lost_with_a_server(
    processes: list[ServerProcess], expected: list[float], how: signal.Signals
) -> None:
    addresses = [one.wait() for one in processes]
    async with RewardEnvironment(addresses, timeout=60.0) as environment:
        pending = [environment.submit(one) for _ in range(20) for one in answers(64)]
        await asyncio.sleep(0.3)
        processes[0].process.send_signal(how)
        rewards = await asyncio.gather(*pending)
        started = time.monotonic()
        again = await environment.rewards(answers(64))
        assert time.monotonic() - started < 5  # the dead one is not tried first each time
    assert Counter(reward.error for reward in rewards) == {None: 1280}
    assert [reward.value for reward in rewards] == pytest.approx(expected * 20, abs=1e-4)
    assert values(again) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
async def test_a_server_that_hangs_is_passed_over(processes: list[ServerProcess], expected: list[float]) -> None:
    addresses = [one.wait() for one in processes]
    async with RewardEnvironment(addresses, failures="none", timeout=2.0) as environment:
        await environment.rewards(answers(4))
        processes[0].process.send_signal(signal.SIGSTOP)
        first = await environment.rewards(answers(16))
        again = await environment.rewards(answers(16))
        processes[0].process.send_signal(signal.SIGCONT)
    assert any(reward.error is not None for reward in first)
    assert values(again) == pytest.approx(expected[:16], abs=1e-5)


@pytest.mark.slow
async def test_a_server_that_hangs_is_hedged(processes: list[ServerProcess], expected: list[float]) -> None:
    addresses = [one.wait() for one in processes]
    async with RewardEnvironment(addresses, hedge_after=0.5, timeout=60.0) as environment:
        await environment.rewards(answers(4))  # both are connected
        processes[0].process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        rewards = await environment.rewards(answers(64))
        took = time.monotonic() - started
        processes[0].process.send_signal(signal.SIGCONT)
    assert values(rewards) == pytest.approx(expected, abs=1e-5)
    assert took < 15, took


async def test_addresses_may_change_and_not_be_known(logit: LocalModel, expected: list[float]) -> None:
    asked: list[int] = []

    def tell() -> list[str]:
        asked.append(1)
        if len(asked) in (1, 4):
            raise RuntimeError("the cluster does not answer")
        return list(there) if len(asked) > 2 else []

    with ServerThread([logit]) as first:
        there = [first.address]
        environment = RewardEnvironment(tell, timeout=30.0)
        assert values(await environment.rewards(answers(4))) == pytest.approx(expected[:4], abs=1e-5)
        second = ServerThread([logit]).__enter__()
        there[:] = [second.address]
    rewards = await environment.rewards(answers(4))
    assert values(rewards) == pytest.approx(expected[:4], abs=1e-5)
    await environment.close()
    second.__exit__(None, None, None)


def test_a_closed_sync_environment_leaves_no_thread(server: ServerThread) -> None:
    before = threading.active_count()
    environment = SyncRewardEnvironment(RewardEnvironment(server.address, model=MODEL))
    futures = [environment.submit(one) for one in answers(16)]
    environment.close()
    done, waiting = wait(futures, timeout=10)
    assert not waiting
    assert len(done) == 16
    assert threading.active_count() == before
