"""Replicas in processes: their birth, their deaths, and what becomes of the batches that they had."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import time
from functools import partial

import numpy as np
import pytest
from services.faults import CRASH, HANG, MUTE, POISON, RAISE, Slowness, score_of, spec
from services.pools import Notes, entry, until

from rm_grpc.types import Item, Verdict
from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.engine.messages import LENGTH, ReplicaSpec, Work
from rm_grpc_server.engine.pool import Place, Pool, Vigilance
from rm_grpc_server.engine.replica import ReplicaProcess
from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.text.encoding import Encoding, Tokens

QUICK = Vigilance(hang_seconds=0.5, probe_seconds=0.4, backoff_seconds=0.05)


class Running:
    """A started pool with its notes, for the length of the block."""

    def __init__(self, slowness: Slowness = Slowness(), *, replicas: int = 1, vigilance: Vigilance = QUICK) -> None:  # noqa: B008
        self.pool = Pool([partial(ReplicaProcess, spec(slowness))] * replicas, vigilance)
        self.notes = Notes()

    async def __aenter__(self) -> Running:
        description = await self.pool.start()
        assert description.kind == "faulty"
        self.pool.work_for(self.notes)
        return self

    async def __aexit__(self, *_: object) -> None:
        pids = [pid_of(place) for place in self.pool.places if place.is_alive]
        await self.pool.close()
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    def send(self, *entries: Entry) -> None:
        place = self.pool.place_with_room()
        assert place is not None
        self.pool.send(place, entries)


def pid_of(place: Place) -> int:
    replica = place.replica
    assert isinstance(replica, ReplicaProcess)
    assert replica.pid is not None
    return replica.pid


async def test_it_scores_in_a_process_of_its_own() -> None:
    async with Running(replicas=2) as running:
        pids = {pid_of(place) for place in running.pool.places}
        assert len(pids | {os.getpid()}) == 3
        running.send(entry(1, 2, 3), entry(5, 1023))
        await until(lambda: running.notes.done)
        [(_, result, stages)] = running.notes.done
        scores = [outcome.raw_score for outcome in result.outcomes if isinstance(outcome, Verdict)]
        assert scores == [score_of([1, 2, 3]), score_of([5, 1023])]
        assert stages.received <= stages.packed <= stages.started <= stages.ended


async def test_the_stages_of_batches_overlap() -> None:
    """Wall time is near the longest stage, not the sum of all three."""
    stage = 0.05
    async with Running(Slowness(stage, stage, stage), vigilance=Vigilance(ahead=4)) as running:
        begin = time.monotonic()
        for at in range(20):
            await until(running.pool.place_with_room)
            running.send(entry(at + 1))
        await until(lambda: len(running.notes.done) == 20)
        wall = time.monotonic() - begin
    assert wall < 20 * stage * 1.8, f"{wall:.2f} s; one after another they take {20 * 3 * stage:.1f} s"


async def test_idleness_is_counted_only_while_work_waits() -> None:
    async with Running(Slowness(prepare=0.1)) as running:
        [place] = running.pool.places
        await asyncio.sleep(0.2)
        running.send(entry(1))
        await until(lambda: running.notes.done)
        assert 0.1 <= place.idle_seconds < 0.2, "the batch waited for being packed, and not for itself to come"


@pytest.mark.parametrize("fault", [CRASH, HANG, POISON, MUTE])
async def test_a_death_tells_suspects_from_bystanders_and_the_replica_comes_back(fault: int) -> None:
    async with Running(vigilance=Vigilance(hang_seconds=0.5, probe_seconds=60.0, backoff_seconds=0.05)) as running:
        [place] = running.pool.places
        first = pid_of(place)
        poisonous, neighbour, bystander = entry(1, fault), entry(2), entry(3)
        running.send(poisonous, neighbour)
        if fault == HANG:  # the others die before a second batch can be sent for certain
            running.send(bystander)
        await until(lambda: running.notes.losses)
        [(suspects, others)] = running.notes.losses
        assert list(suspects) == [poisonous, neighbour]
        assert list(others) == ([bystander] if fault == HANG else [])
        await until(lambda: place.is_alive)
        assert pid_of(place) != first
        running.send(neighbour)
        await until(lambda: running.notes.done)


async def test_a_batch_that_hangs_has_no_longer_than_its_own_time() -> None:
    """Whatever went before: one timer watches over all batches of a replica."""
    async with Running(vigilance=Vigilance(hang_seconds=1.0, probe_seconds=60.0, backoff_seconds=0.05)) as running:
        for at in range(1, 9):
            running.send(entry(at))
            running.send(entry(at))
            await until(lambda at=at: len(running.notes.done) == 2 * at)
            await asyncio.sleep(0.1)
        running.send(entry(1, HANG))
        sent = time.monotonic()
        await until(lambda: running.notes.losses)
        assert 0.9 <= time.monotonic() - sent < 1.7


async def test_what_is_no_message_ends_a_replica(caplog: pytest.LogCaptureFixture) -> None:
    async with Running() as running:
        [place] = running.pool.places
        assert isinstance(place.replica, ReplicaProcess)
        assert place.replica._line is not None
        place.replica._line.data_received(LENGTH.pack(3) + b"no.")
        await until(lambda: running.notes.losses)
        assert "an answer of replica 0 cannot be used" in caplog.text
        await until(lambda: place.is_alive)
        running.send(entry(1))
        await until(lambda: running.notes.done)


async def test_a_start_that_fails_in_any_way_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Running() as running:
        [place] = running.pool.places
        launch, calls = place.launch, 0

        def flaky() -> ReplicaProcess:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise OSError("resource temporarily unavailable")
            made = launch()
            assert isinstance(made, ReplicaProcess)
            return made

        place.launch = flaky
        running.send(entry(CRASH))
        await until(lambda: calls == 2 and place.is_alive)
        running.send(entry(1))
        await until(lambda: running.notes.done)


async def test_a_replica_that_hangs_while_it_loads_is_given_up() -> None:
    pool = Pool([partial(ReplicaProcess, ReplicaSpec("time:sleep", (60,)))], Vigilance(load_seconds=1.0))
    with pytest.raises(ModelLoadError, match=r"not ready after 1 s \(load_seconds\)"):
        await pool.start()


async def test_a_failure_that_the_replica_survives_is_told() -> None:
    async with Running(Slowness(memory=4)) as running:
        [place] = running.pool.places
        pid = pid_of(place)
        running.send(entry(1, RAISE))
        await until(lambda: running.notes.failures)
        running.send(entry(1, 2, 3), entry(4, 5))
        await until(lambda: len(running.notes.failures) == 2)
        assert [(len(entries), out_of_memory) for entries, _, out_of_memory in running.notes.failures] == [
            (1, False),
            (2, True),
        ]
        assert "a fault of this conversation" in running.notes.failures[0][1]
        running.send(entry(6))
        await until(lambda: running.notes.done)
        assert pid_of(place) == pid


async def test_a_replica_without_memory_for_anything_is_started_again() -> None:
    """An item alone that does not fit is told, unless the simplest of batches does not fit either."""
    async with Running(Slowness(memory=3), vigilance=Vigilance(probe_seconds=60.0, backoff_seconds=0.05)) as running:
        [place] = running.pool.places
        first = pid_of(place)
        large = entry(1, 2, 3, 4)
        running.send(large)
        await until(lambda: running.notes.losses)
        assert running.notes.losses == [([large], [])]
        assert not running.notes.failures
        await until(lambda: place.is_alive)
        assert pid_of(place) != first


async def test_an_idle_replica_without_memory_is_found_by_a_probe() -> None:
    async with Running(Slowness(memory=3)) as running:
        await until(lambda: running.notes.losses)


def test_the_wait_before_another_start_is_bounded_however_many_failed() -> None:
    vigilance = Vigilance(backoff_seconds=1.0)
    assert [vigilance.backoff(deaths) for deaths in (0, 1, 2, 3, 4, 9, 10_000)] == [0, 0, 1, 2, 4, 60, 60]


async def test_a_replica_that_loads_ends_with_its_server() -> None:
    """It holds its devices, and whoever starts the server again wants them."""
    replica = ReplicaProcess(ReplicaSpec("time:sleep", (60,)))
    starting = asyncio.ensure_future(replica.start())
    await until(lambda: replica._line is not None)
    await asyncio.sleep(0.5)
    assert replica._line is not None
    replica._line.abort()
    with pytest.raises(ModelLoadError, match="ended with status -9"):
        await asyncio.wait_for(starting, 4)


async def test_a_batch_that_cannot_be_sent_leaves_nothing_behind() -> None:
    async with Running() as running:
        [place] = running.pool.places
        broken = entry(1)
        broken.encoding = Encoding(broken.ids, "", (0,), request=Item("", "x", metadata={"no": lambda: 0}))
        with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
            running.send(broken)
        assert place.is_idle
        running.send(entry(2))
        await until(lambda: running.notes.done)


async def test_a_replica_that_hangs_without_work_is_found_by_a_probe() -> None:
    async with Running() as running:
        [place] = running.pool.places
        first = pid_of(place)
        os.kill(first, signal.SIGSTOP)
        await until(lambda: running.notes.losses)
        await until(lambda: place.is_alive)
        assert pid_of(place) != first
        assert running.notes.losses == [([], [])]


async def test_signals_to_the_group_do_not_end_a_replica() -> None:
    async with Running() as running:
        [place] = running.pool.places
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid_of(place), number)
        running.send(entry(7))
        await until(lambda: running.notes.done)
        assert not running.notes.losses


async def test_one_that_dies_again_and_again_is_started_ever_later() -> None:
    async with Running() as running:
        [place] = running.pool.places
        for deaths in range(1, 5):
            running.send(entry(CRASH))
            await until(lambda deaths=deaths: len(running.notes.losses) == deaths)
            dead = time.monotonic()
            await until(lambda: place.is_alive)
            assert time.monotonic() - dead >= (0.05 * 2 ** (deaths - 2) if deaths > 1 else 0)


async def test_what_cannot_be_loaded_is_refused_with_its_reason() -> None:
    pool = Pool([partial(ReplicaProcess, spec()), partial(ReplicaProcess, spec(factory="refuses"))], QUICK)
    with pytest.raises(ModelLoadError, match="no such weights"):
        await pool.start()
    assert not pool.alive
    broken = Pool([partial(ReplicaProcess, ReplicaSpec("services.nowhere:nothing"))], QUICK)
    with pytest.raises(ModelLoadError, match="ended with status 1"):
        await broken.start()


async def test_a_replica_ends_with_its_server() -> None:
    """However the server ends: the socket that they share is all that holds a replica."""
    replica = ReplicaProcess(spec(Slowness(launch=60.0)))
    await replica.start()
    replica.send(Work(1, [Tokens.read_at_end(np.array([1], dtype=np.int32))]))
    assert replica._line is not None
    replica._line.close()
    await asyncio.wait_for(replica.ended(), 10)
