"""A model's replicas: which are alive, what each has in work, and what becomes of it when one dies."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.engine.messages import Done, Failed, Message, Stages, Work
from rm_grpc_server.engine.replica import Replica
from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.scoring.protocols import BatchOutcome, ScorerDescription

_LOG = logging.getLogger(__name__)


class Employer(Protocol):
    """Whom the pool works for."""

    def scored(self, entries: Sequence[Entry], result: BatchOutcome, stages: Stages) -> None:
        """A batch has its outcomes."""

    def failed(self, entries: Sequence[Entry], message: str, *, out_of_memory: bool) -> None:
        """A batch was not scored, and its replica lives."""

    def lost(self, suspects: Sequence[Entry], others: Sequence[Entry]) -> None:
        """A replica died: while it computed the suspects, and before it came to the others."""

    def changed(self) -> None:
        """A replica came up, went down, or has room for a batch."""


@dataclass(frozen=True, slots=True)
class Vigilance:
    """How replicas are watched.

    Attributes:
        ahead: how many batches a replica has at most, those in work included.
        at_once: how many of them it works on at the same time.
        hang_seconds: a batch that takes longer means a replica that hangs; it is killed.
        probe_seconds: a replica that scored nothing for so long must score a probe.
        load_seconds: a replica that is not ready after so long is given up.
        backoff_seconds: wait before a replica is started again after its first quick death; doubled at each further one.
    """

    ahead: int = 2
    at_once: int = 1
    hang_seconds: float = 300.0
    probe_seconds: float = 15.0
    backoff_seconds: float = 1.0
    load_seconds: float = 3600.0

    def backoff(self, deaths: int) -> float:
        """Seconds before a replica is started again after so many deaths in a row."""
        doublings = min(deaths - 2, _MOST_DOUBLINGS)
        return min(self.backoff_seconds * 2**doublings, _LONGEST_BACKOFF) if deaths > 1 else 0.0


_LONGEST_BACKOFF = 60.0
_MOST_DOUBLINGS = 32  # a replica that cannot start for days dies more often than a float has powers of two
_LAST_SECONDS = 6.0  # for replicas to end by themselves: a second more than they give their scorers
_LONG_LIFE = 60.0  # seconds after which a death counts as a first one


@dataclass(slots=True, eq=False)
class _Flight:
    entries: Sequence[Entry]
    hangs_at: float
    is_alone: bool


@dataclass(slots=True, eq=False)
class Place:
    """Where one replica runs, and is started again when it dies.

    Attributes:
        flights: the batches that it has, by number.
        watch: looks for one that takes too long. One timer for them all: thousands of batches may come and go in a second.
        deaths: how many came one after another, none after a long life or after work.
        has_scored: whether the living replica is good for something: what kills it then is not cured by waiting.
        idle_seconds: how long its device was idle while work waited for it.
    """

    launch: Callable[[], Replica]
    number: int
    replica: Replica | None = None
    description: ScorerDescription | None = None
    flights: dict[int, _Flight] = field(default_factory=dict)
    watch: asyncio.TimerHandle | None = None
    deaths: int = 0
    has_scored: bool = False
    last_answer: float = 0.0
    last_ended: float = 0.0
    idle_seconds: float = 0.0
    busy_seconds: float = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether it takes batches."""
        return self.replica is not None

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do."""
        return not self.flights

    def has_room(self, ahead: int) -> bool:
        """Whether it takes a batch behind those that it has."""
        return len(self.flights) < ahead and not any(flight.is_alone for flight in self.flights.values())


class Pool:
    """Replicas of one model.

    Args:
        launches: one for each replica; called again when it died.
        vigilance: how they are watched.
    """

    def __init__(self, launches: Sequence[Callable[[], Replica]], vigilance: Vigilance = Vigilance()) -> None:
        self.places = [Place(launch, number) for number, launch in enumerate(launches)]
        self.vigilance = vigilance
        self._employer: Employer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._number = 0

    async def start(self) -> ScorerDescription:
        """Starts all replicas, and tells what they are.

        Raises:
            StartupError: one cannot be started.
        """
        starting = [asyncio.ensure_future(self._start(place)) for place in self.places]
        try:
            descriptions = await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self.close()
            raise
        return descriptions[0]

    def work_for(self, employer: Employer) -> None:
        """From now on batches are taken; what comes of them is told the employer."""
        self._employer = employer
        self._tasks = [asyncio.create_task(self._keep(place)) for place in self.places]
        self._tasks.append(asyncio.create_task(self._probe()))

    @property
    def alive(self) -> int:
        """How many replicas live."""
        return sum(place.is_alive for place in self.places)

    def place_with_room(self) -> Place | None:
        """The living replica with the least to do, if it has room for a batch."""
        places = [place for place in self.places if place.is_alive and place.has_room(self.vigilance.ahead)]
        return min(places, key=lambda place: len(place.flights), default=None)

    def send(self, place: Place, entries: Sequence[Entry], *, alone: bool = False) -> None:
        """Gives a replica a batch; `alone` keeps others away from it, so that a death tells who is guilty."""
        self._send(place, entries, [entry.work for entry in entries], alone=alone)

    def kill(self) -> None:
        """Ends all replicas at once, for a server that ends at once."""
        for place in self.places:
            if place.replica is not None:
                place.replica.kill()

    async def close(self) -> None:
        """Ends all replicas; what they had in work is the employer's to answer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        replicas = [place.replica for place in self.places if place.replica is not None]
        # Scorers of whole items may have something to close; their processes hear that they end by their sockets' end.
        polite = [place for place in self.places if place.description is not None and place.description.reading is None]
        ending = [asyncio.ensure_future(place.replica.ended()) for place in polite if place.replica is not None]
        for place in self.places:
            self._forget_flights(place)
            place.replica = None
        if ending:
            await asyncio.wait(ending, timeout=_LAST_SECONDS)
        for replica in replicas:
            replica.kill()
        await asyncio.gather(*ending, *(replica.ended() for replica in replicas))

    # --- one replica's life -------------------------------------------------------------------------------------------

    async def _start(self, place: Place) -> ScorerDescription:
        replica = place.launch()
        try:
            starting = asyncio.ensure_future(replica.start())
            try:
                await asyncio.wait([starting], timeout=self.vigilance.load_seconds)
                if not starting.done():
                    raise ModelLoadError(f"a replica is not ready after {self.vigilance.load_seconds:g} s (load_seconds)")
                place.description = starting.result()
            finally:
                starting.cancel()
        except BaseException:
            replica.kill()
            await replica.ended()
            raise
        place.replica = replica
        place.has_scored = False
        place.last_answer = place.last_ended = time.monotonic()
        return place.description

    async def _keep(self, place: Place) -> None:
        """Listens to a replica, and starts it again each time it dies."""
        while True:
            if place.replica is not None:
                born = time.monotonic()
                await self._listen(place, place.replica)
                place.deaths = 1 if place.has_scored or time.monotonic() - born > _LONG_LIFE else place.deaths + 1
            if delay := self.vigilance.backoff(place.deaths):
                _LOG.warning("replica %d is started again in %g s", place.number, delay)
                await asyncio.sleep(delay)
            try:
                await self._start(place)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next start may do better
                place.deaths += 1
                _LOG.error("replica %d does not start: %s", place.number, error)
            else:
                _LOG.warning("replica %d is up again", place.number)
                self._told().changed()

    async def _listen(self, place: Place, replica: Replica) -> None:
        try:
            await replica.listen(partial(self._hear, place))
        except Exception:  # noqa: BLE001 - a replica that talks nonsense is as good as dead
            _LOG.exception("an answer of replica %d cannot be used", place.number)
        replica.kill()
        flights = self._forget_flights(place)
        place.replica = None
        _LOG.error("replica %d died with %d batches in work", place.number, len(flights))
        # What is on the device is the likelier reason; what is only being packed is suspected where nothing is on the device.
        begun = [number for number in flights if number <= replica.progress.on_device]
        begun = begun or [number for number in flights if number <= replica.progress.packing]
        suspects = [entry for number in begun for entry in flights.pop(number).entries]
        others = [entry for flight in flights.values() for entry in flight.entries]
        self._told().lost(suspects, others)
        self._told().changed()
        await replica.ended()

    def _hear(self, place: Place, message: Message) -> None:
        place.last_answer = time.monotonic()
        if isinstance(message, (Done, Failed)):
            flight = place.flights.pop(message.number)
            if isinstance(message, Done):
                self._account(place, flight, message.stages)
                if flight.entries:
                    place.has_scored = True
                    self._told().scored(flight.entries, message.result, message.stages)
            elif flight.entries:
                self._told().failed(flight.entries, message.message, out_of_memory=message.out_of_memory)
            self._told().changed()

    @staticmethod
    def _account(place: Place, flight: _Flight, stages: Stages) -> None:
        """Counts how long the device was idle while this batch's items already waited for it."""
        waited_since = min((entry.queued for entry in flight.entries), default=stages.received)
        place.idle_seconds += max(0.0, stages.started - max(place.last_ended, waited_since))
        place.busy_seconds += stages.ended - max(stages.started, place.last_ended)
        place.last_ended = stages.ended

    # --- batches ------------------------------------------------------------------------------------------------------

    def _send(self, place: Place, entries: Sequence[Entry], conversations: Sequence[Any], *, alone: bool = False) -> None:
        assert place.replica is not None
        self._number += 1
        hangs_at = time.monotonic() + self.vigilance.hang_seconds * (len(place.flights) // self.vigilance.at_once + 1)
        place.replica.send(Work(self._number, conversations))
        place.flights[self._number] = _Flight(entries, hangs_at, alone)
        if place.watch is None or hangs_at < place.watch.when():
            self._watch(place, hangs_at)

    def _watch(self, place: Place, until: float) -> None:
        if place.watch is not None:
            place.watch.cancel()
        place.watch = asyncio.get_running_loop().call_at(until, self._look_after, place)

    def _look_after(self, place: Place) -> None:
        place.watch = None
        hangs_at = min((flight.hangs_at for flight in place.flights.values()), default=None)
        if hangs_at is None:
            return
        if hangs_at > time.monotonic():
            self._watch(place, hangs_at)
        elif place.replica is not None:
            _LOG.error("replica %d does not answer, and is killed", place.number)
            place.replica.kill()

    @staticmethod
    def _forget_flights(place: Place) -> dict[int, _Flight]:
        if place.watch is not None:
            place.watch.cancel()
            place.watch = None
        flights, place.flights = place.flights, {}
        return flights

    async def _probe(self) -> None:
        """Health by a real forward pass: of each replica that has nothing else to prove itself with."""
        while True:
            await asyncio.sleep(self.vigilance.probe_seconds / 2)
            for place in self.places:
                silent = time.monotonic() - place.last_answer
                if place.is_alive and place.is_idle and silent > self.vigilance.probe_seconds / 2:
                    assert place.description is not None
                    self._send(place, (), place.description.probe())

    def _told(self) -> Employer:
        assert self._employer is not None
        return self._employer
