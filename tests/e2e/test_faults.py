"""Nothing is lost: each accepted item gets exactly one outcome, whatever dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from services.faults import CRASH, EARLY, HANG, MUTE, POISON, RAISE, FaultyModel, Slowness, score_of
from services.models import LocalModel
from services.server import ServerProcess, ServerThread

from rm_grpc import convert, errors
from rm_grpc.types import Result, TokenIds
from rm_grpc.v1 import conversation_pb2, reward_service_pb2, reward_service_pb2_grpc
from rm_grpc_client import RewardClient
from rm_grpc_server.engine.model_engine import ModelEngine
from rm_grpc_server.engine.pool import Place, Vigilance
from rm_grpc_server.engine.replica import ReplicaProcess


def places(server: ServerThread) -> list[Place]:
    return server.models[0].pool.places


def signal_replica(place: Place, number: signal.Signals) -> None:
    if isinstance(place.replica, ReplicaProcess) and place.replica.pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(place.replica.pid, number)


def wait_until(condition: Any, timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@dataclass
class Stream:
    """A stream driven by hand, which counts what it is owed and what it got."""

    call: Any
    digest: str
    sent: dict[str, list[int]] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None
    status: grpc.aio.AioRpcError | None = None

    async def open(self) -> None:
        await self.call.write(reward_service_pb2.ScoreBatchRequest(open=reward_service_pb2.OpenStream()))
        response = await self.call.read()
        assert response.WhichOneof("message") == "opened"
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while (response := await self.call.read()) is not grpc.aio.EOF:
                self.results += [convert.result_from_proto(proto, 0) for proto in response.results.results]
        except grpc.aio.AioRpcError as error:
            self.status = error

    async def send(self, *conversations: list[int], timeout: float = 0.0) -> None:
        protos = []
        for ids in conversations:
            name = f"{len(self.sent)}"
            self.sent[name] = ids
            item = conversation_pb2.Item(id=name, tokens=token_message(ids, self.digest))
            if timeout:
                item.timeout.FromNanoseconds(int(timeout * 1e9))
            protos.append(item)
        await self.call.write(reward_service_pb2.ScoreBatchRequest(items=reward_service_pb2.Items(items=protos)))

    async def cancel_some(self, names: list[str]) -> None:
        cancel = reward_service_pb2.CancelItems(ids=names)
        await self.call.write(reward_service_pb2.ScoreBatchRequest(cancel=cancel))

    async def finish(self) -> None:
        await self.call.done_writing()
        assert self.reader is not None
        await asyncio.wait_for(self.reader, 90)

    def check(self) -> Counter[str]:
        """That each item has one outcome, and each score is its item's; what the outcomes were."""
        assert self.status is None, self.status
        counts = Counter(result.id for result in self.results)
        assert counts == Counter(self.sent.keys())
        for result in self.results:
            if result.error is None:
                assert result.score.score == score_of(self.sent[result.id])
        return Counter(type(result.outcome).__name__ for result in self.results)


def token_message(ids: list[int], digest: str) -> Any:
    return conversation_pb2.TokenIds(ids=convert.ids_to_bytes(ids), tokenizer_digest=digest)


@asynccontextmanager
async def stream_to(server: ServerThread, digest: str) -> AsyncIterator[Stream]:
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stream = Stream(reward_service_pb2_grpc.RewardServiceStub(channel).ScoreBatch(), digest)
        await stream.open()
        yield stream


def ids(generator: random.Random, *faults: int) -> list[int]:
    made = [generator.randrange(1, 700) for _ in range(generator.randint(2, 30))]
    return [*made, *faults]


@pytest.fixture
def faulty(logit: LocalModel) -> Iterator[ServerThread]:
    with ServerThread([FaultyModel(logit.info, logit.text, replicas=2)]) as server:
        yield server


# --- one fault at a time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [CRASH, HANG, POISON, MUTE, EARLY])
async def test_a_poison_item_is_quarantined_and_its_neighbours_are_scored(
    faulty: ServerThread, logit: LocalModel, fault: int
) -> None:
    generator = random.Random(fault)
    async with stream_to(faulty, logit.info.tokenizer_digest) as stream:
        await stream.send(*(ids(generator) for _ in range(8)), ids(generator, fault), *(ids(generator) for _ in range(8)))
        await stream.finish()
    assert stream.check() == {"Score": 16, "QuarantinedError": 1}
    assert next(result for result in stream.results if result.error).id == "8"


async def test_a_quarantined_item_that_is_sent_again_kills_nobody(faulty: ServerThread, logit: LocalModel) -> None:
    generator = random.Random(1)
    poison = ids(generator, CRASH)
    async with stream_to(faulty, logit.info.tokenizer_digest) as stream:
        await stream.send(poison)
        await asyncio.to_thread(wait_until, lambda: stream.results)
        wait_until(lambda: all(place.is_alive for place in places(faulty)))
        deaths = [place.deaths for place in places(faulty)]
        await stream.send(poison, ids(generator))
        await stream.finish()
    assert stream.check() == {"Score": 1, "QuarantinedError": 2}
    assert [place.deaths for place in places(faulty)] == deaths


async def test_out_of_memory_splits_the_batch_until_it_fits(logit: LocalModel) -> None:
    model = FaultyModel(logit.info, logit.text, slowness=Slowness(launch=0.05, memory=40))
    with ServerThread([model]) as server:
        async with stream_to(server, logit.info.tokenizer_digest) as stream:
            await stream.send([1] * 41, *([at + 1] * 18 for at in range(20)))
            await stream.finish()
        assert places(server)[0].deaths == 0
    assert stream.check() == {"Score": 20, "ScorerFailedError": 1}
    [failed] = [result for result in stream.results if result.error]
    assert failed.id == "0"
    assert "not enough memory for 41 tokens" in str(failed.error)


async def test_an_exception_costs_its_own_item(faulty: ServerThread, logit: LocalModel) -> None:
    generator = random.Random(2)
    async with stream_to(faulty, logit.info.tokenizer_digest) as stream:
        await stream.send(*(ids(generator, *([RAISE] if at in (3, 11) else [])) for at in range(16)))
        await stream.finish()
    assert stream.check() == {"Score": 14, "ScorerFailedError": 2}
    assert {result.id for result in stream.results if result.error} == {"3", "11"}


async def test_with_every_replica_dead_callers_hear_it_at_once(logit: LocalModel) -> None:
    """New items at once, those that were accepted before once the time to recover is over."""
    model = FaultyModel(logit.info, logit.text, slowness=Slowness(launch=30.0))
    with ServerThread([model], recovery_seconds=0.15) as server:
        async with (
            stream_to(server, logit.info.tokenizer_digest) as stream,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(service=f"models/{logit.info.name}"))
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            await stream.send([1, 2], [3, 4])
            await asyncio.sleep(0.3)
            killed = time.monotonic()
            signal_replica(places(server)[0], signal.SIGKILL)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            await stream.send([5, 6])
            await asyncio.to_thread(wait_until, lambda: stream.results)
            assert [result.id for result in stream.results] == ["2"]
            await asyncio.to_thread(wait_until, lambda: len(stream.results) == 3)
            assert time.monotonic() - killed < 1.0
            assert {type(result.error) for result in stream.results} == {errors.UnavailableError}
            assert all(result.error and result.error.retry_delay for result in stream.results)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING, "and it comes back"
            watch.cancel()


def test_a_client_rides_over_the_death_of_the_only_replica(logit: LocalModel) -> None:
    """The client sends again what was unavailable, by itself."""
    model = FaultyModel(logit.info, logit.text, slowness=Slowness(launch=0.1), max_tokens=64)
    with ServerThread([model], recovery_seconds=0) as server, RewardClient(server.address, timeout=60) as client:
        generator = random.Random(4)
        conversations = [ids(generator) for _ in range(60)]
        killer = asyncio.run_coroutine_threadsafe(_kill_later(server, 0.4), server._loop)
        scores = client.score([TokenIds(tuple(one), logit.info.tokenizer_digest) for one in conversations])
        killer.result()
    assert [score.score for score in scores] == [score_of(one) for one in conversations]


async def _kill_later(server: ServerThread, delay: float) -> None:
    await asyncio.sleep(delay)
    signal_replica(places(server)[0], signal.SIGKILL)


# --- all faults at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_each_item_has_one_outcome(logit: LocalModel, seed: int) -> None:
    """Random faults against random streams, then a count. The seed alone decides what is done."""
    generator = random.Random(seed)
    vigilance = Vigilance(hang_seconds=0.5, probe_seconds=0.5, backoff_seconds=0.02)
    model = FaultyModel(logit.info, logit.text, 3, Slowness(launch=0.002, memory=120), vigilance, max_tokens=160)
    settings = {"window_items": 200, "queue_items": 400}
    digest = logit.info.tokenizer_digest
    with ServerThread([model], **settings) as server:
        async with stream_to(server, digest) as first, stream_to(server, digest) as second:
            counted = [first, second]
            for _ in range(120):
                stream = generator.choice(counted)
                action = generator.choices(
                    ["send", "fault", "hurry", "cancel", "kill", "stop", "abandon", "rest"], [30, 5, 4, 8, 2, 1, 5, 30]
                )[0]
                if action == "send":
                    await stream.send(*(ids(generator) for _ in range(generator.randint(1, 12))))
                elif action == "fault":
                    fault = generator.choice([CRASH, POISON, RAISE, MUTE, EARLY] + [HANG] * (generator.random() < 0.2))
                    await stream.send(ids(generator), ids(generator, fault), ids(generator))
                elif action == "hurry":
                    await stream.send(ids(generator), ids(generator), timeout=generator.choice([0.001, 0.01, 0.1]))
                elif action == "cancel" and stream.sent:
                    await stream.cancel_some(generator.sample(sorted(stream.sent), min(3, len(stream.sent))))
                elif action in ("kill", "stop"):
                    number = signal.SIGKILL if action == "kill" else signal.SIGSTOP
                    signal_replica(generator.choice(places(server)), number)
                elif action == "abandon":  # a client that dies: nobody counts its items, and they hold up nobody
                    async with stream_to(server, digest) as gone:
                        await gone.send(*(ids(generator) for _ in range(5)))
                        gone.call.cancel()
                else:
                    await asyncio.sleep(generator.random() * 0.2)
            await first.finish()
            await second.finish()
        outcomes = first.check() + second.check()
        engine_is_empty = [len(engine._open) for engine in server.engines.values()]
    assert engine_is_empty == [0]
    assert outcomes["Score"] > 0
    known = {"Score", "QuarantinedError", "ScorerFailedError", "DeadlineExceededError", "ItemCancelledError"}
    assert set(outcomes) <= known | {"UnavailableError", "WindowExceededError", "OverloadedError"}, outcomes


# --- load -------------------------------------------------------------------------------------------------------------


def memory() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_ten_times_overload_is_refused_with_a_time_to_wait_and_bounded(logit: LocalModel) -> None:
    model = FaultyModel(logit.info, logit.text, slowness=Slowness(launch=0.02), max_tokens=400)
    generator = random.Random(5)
    with ServerThread([model], queue_items=300, window_items=4000) as server:
        async with stream_to(server, logit.info.tokenizer_digest) as stream:
            await stream.send([1, 2, 3])
            before = memory()
            for _ in range(190):
                await stream.send(*([*ids(generator), *range(1, 60)] for _ in range(16)))
                await asyncio.sleep(0)
            engine = next(iter(server.engines.values()))
            assert len(engine._open) <= 300 + 2 * 400 / 60 + 1, "what waits, and two batches"
            await stream.finish()
            grown = memory() - before
    outcomes = stream.check()
    refused = outcomes["OverloadedError"] + outcomes["WindowExceededError"]
    assert refused > 1000
    assert outcomes["Score"] >= 100
    assert all(result.error.retry_delay for result in stream.results if result.error)
    assert grown < 150_000_000, "results and requests of this test included"


async def test_an_overloaded_stream_is_told_a_smaller_window_and_later_a_larger_one(logit: LocalModel) -> None:
    model = FaultyModel(logit.info, logit.text, slowness=Slowness(launch=0.05), max_tokens=64)
    with ServerThread([model], queue_items=40, window_items=200) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            call: Any = reward_service_pb2_grpc.RewardServiceStub(channel).ScoreBatch()
            await call.write(reward_service_pb2.ScoreBatchRequest(open=reward_service_pb2.OpenStream()))
            assert (await call.read()).opened.window.items == 200
            protos = [
                conversation_pb2.Item(id=str(at), tokens=token_message([at + 1] * 8, logit.info.tokenizer_digest))
                for at in range(120)
            ]
            await call.write(reward_service_pb2.ScoreBatchRequest(items=reward_service_pb2.Items(items=protos)))
            await call.done_writing()
            windows, outcomes = [], 0
            while (response := await call.read()) is not grpc.aio.EOF:
                windows += [response.window.items] if response.WhichOneof("message") == "window" else []
                outcomes += len(response.results.results)
    assert outcomes == 120
    assert min(windows) < 60, "halved at least"
    assert windows[-1] > min(windows), "and opened again once there was room"


async def test_ten_thousand_streams_opened_and_cancelled_leave_nothing_behind(logit: LocalModel) -> None:
    model = FaultyModel(logit.info, logit.text)
    digest = logit.info.tokenizer_digest
    with ServerThread([model]) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = reward_service_pb2_grpc.RewardServiceStub(channel)

            async def come_and_go(at: int) -> None:
                call: Any = stub.ScoreBatch()
                await call.write(reward_service_pb2.ScoreBatchRequest(open=reward_service_pb2.OpenStream()))
                item = conversation_pb2.Item(id="a", tokens=token_message([at % 700 + 1] * 5, digest))
                await call.write(reward_service_pb2.ScoreBatchRequest(items=reward_service_pb2.Items(items=[item])))
                call.cancel()

            async def many(count: int) -> None:
                for start in range(0, count, 50):
                    await asyncio.gather(*(come_and_go(start + at) for at in range(50)), return_exceptions=True)

            await many(2000)
            await asyncio.sleep(0.5)
            before = memory()
            await many(8000)
            await asyncio.sleep(0.5)
            grown = memory() - before
        engine = next(iter(server.engines.values()))
        wait_until(lambda: not engine._open)
        scored = None
        for _ in range(20):  # grpc may cancel a call that follows thousands of resets
            with contextlib.suppress(grpc.aio.AioRpcError):
                async with stream_to(server, digest) as stream:
                    await stream.send([1, 2, 3])
                    await stream.finish()
                scored = stream.check()
                break
            await asyncio.sleep(0.2)
        assert scored == {"Score": 1}
    assert grown < 60_000_000


# --- whole processes --------------------------------------------------------------------------------------------------


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
async def test_sigterm_under_load_scores_what_was_accepted_and_ends_the_replicas(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    address = server.wait()
    replicas = children_of(server.process.pid)
    assert replicas
    outcomes: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = reward_service_pb2_grpc.RewardServiceStub(channel).ScoreBatch()
        await call.write(reward_service_pb2.ScoreBatchRequest(open=reward_service_pb2.OpenStream()))
        protos = [conversation_pb2.Item(id=str(at), text=f"{at} + 12 = " * 20) for at in range(400)]
        await call.write(reward_service_pb2.ScoreBatchRequest(items=reward_service_pb2.Items(items=protos)))
        while sum(outcomes.values()) < 400:
            for proto in (await call.read()).results.results:
                if not outcomes:
                    server.process.send_signal(signal.SIGTERM)
                outcomes[type(convert.result_from_proto(proto, 0).outcome).__name__] += 1
        with pytest.raises(grpc.aio.AioRpcError, match="going down"):
            await call.read()
    assert outcomes == {"Score": 400}, "what was accepted is scored"
    log = server.process.communicate(timeout=30)[1]
    assert "draining" in log
    assert server.process.returncode == 0
    assert not any(is_alive(pid) for pid in replicas)


@pytest.mark.slow
async def test_a_second_sigterm_ends_at_once_whatever_the_replicas_do(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    address = server.wait()
    replicas = children_of(server.process.pid)
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = reward_service_pb2_grpc.RewardServiceStub(channel).ScoreBatch()
        await call.write(reward_service_pb2.ScoreBatchRequest(open=reward_service_pb2.OpenStream()))
        assert (await call.read()).WhichOneof("message") == "opened"
        for pid in replicas:
            os.kill(pid, signal.SIGSTOP)
        item = conversation_pb2.Item(id="0", text="1 + 12 = ")
        await call.write(reward_service_pb2.ScoreBatchRequest(items=reward_service_pb2.Items(items=[item])))
        await asyncio.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert (await call.read()).WhichOneof("message") == "draining"
        await asyncio.sleep(0.3)
        assert server.process.poll() is None, "what was accepted may still be scored"
        server.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
    log = server.process.communicate(timeout=30)[1]
    assert time.monotonic() - started < 5
    assert server.process.returncode == 1
    assert "ended before everything was over" in log
    wait_until(lambda: not any(is_alive(pid) for pid in replicas))


_ENDLESS_CLIENT = """
import itertools, sys
from rm_grpc_client import RewardClient
endless = (f"{at} + 12 = " * 20 for at in itertools.count())
with RewardClient(sys.argv[1]) as client:
    for _ in client.score_stream(endless):
        print("scored", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_client_that_is_killed_or_stopped_costs_the_others_nothing(logit: LocalModel, how: signal.Signals) -> None:
    with ServerThread([logit], window_items=64) as server:
        [engine] = server.engines.values()
        assert isinstance(engine, ModelEngine)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _ENDLESS_CLIENT, server.address, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(100):
            await asyncio.wait_for(process.stdout.readline(), 60)
        process.send_signal(how)
        await asyncio.sleep(1.0)
        if how == signal.SIGKILL:
            assert not engine._open, "what it had in flight was taken back"
        with RewardClient(server.address) as client:
            assert len(await asyncio.to_thread(client.score, [f"{at} + 1 = 2" for at in range(50)])) == 50
        if how == signal.SIGSTOP:
            process.send_signal(signal.SIGCONT)
            for _ in range(300):  # it goes on where it was
                assert await asyncio.wait_for(process.stdout.readline(), 60)
            process.kill()
        await process.communicate()
        await asyncio.to_thread(wait_until, lambda: not engine._open)


@pytest.mark.slow
def test_replicas_end_with_a_server_that_is_killed(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    server.wait()
    replicas = children_of(server.process.pid)
    server.process.kill()
    server.process.communicate()
    wait_until(lambda: not any(is_alive(pid) for pid in replicas))
