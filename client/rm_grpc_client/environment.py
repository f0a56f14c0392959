"""A reward environment: conversations in, rewards out, in the terms of a trainer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Generator,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from rm_grpc.errors import InvalidRequestError, ItemCancelledError, RewardError
from rm_grpc.types import Conversation, Item, ModelInfo, Score, ScoreOptions
from rm_grpc_client.aio import AsyncRewardClient
from rm_grpc_client.fleet import Addresses, Fleet
from rm_grpc_client.inputs import Scorable, item_of
from rm_grpc_client.lane import Outcome
from rm_grpc_client.metrics import Metrics
from rm_grpc_client.routing import STRATEGIES, Strategy
from rm_grpc_client.security import Security
from rm_grpc_client.shaping import Shaper, Shaping
from rm_grpc_client.stream import each

_AHEAD = 4096
"""Items that a stream is read ahead of the rewards that its reader has taken."""


@dataclass(frozen=True, slots=True)
class Reward:
    """What a trainer uses for one conversation.

    Attributes:
        index: the conversation's position in what the caller gave.
        value: the reward, or None where the conversation could not be scored; never a number that stands for a failure.
        score: the score that it comes from.
        error: why there is none.
        id: the caller's id of the item, or empty.
        components: the numbers that the model gives beside the score, by name: attributes, or the parts of an ensemble. Shaping
            leaves them as they are.
    """

    index: int
    value: float | None
    score: Score | None
    error: RewardError | None
    id: str = ""
    components: Mapping[str, float] = field(default_factory=dict)


class Pending:
    """A reward that is on its way; await it. Cancelling takes the conversation back."""

    def __init__(self, task: asyncio.Task[Reward]) -> None:
        self._task = task

    def __await__(self) -> Generator[Any, None, Reward]:
        return self._task.__await__()

    @property
    def done(self) -> bool:
        """Whether the reward, or the error that it raises, is there."""
        return self._task.done()

    def cancel(self) -> None:
        """Takes the conversation back; who awaits it gets `asyncio.CancelledError`."""
        self._task.cancel()


@dataclass(frozen=True, slots=True)
class _Read:
    """A conversation as the caller gave it.

    Attributes:
        item: what is to be scored, or why it cannot be.
        id: the caller's, or empty.
        started: when it was given, on the monotonic clock.
        deadline: on the same clock, or None.
        prompt: what those of one prompt have in common; None for what is alone, or where nobody asks.
    """

    item: Item | RewardError
    id: str
    started: float
    deadline: float | None = None
    prompt: Hashable = None


class RewardEnvironment:
    """Turns conversations into rewards while generation goes on.

    Args:
        addresses: host:port of a server, of several, or a function that tells them.
        model: the model to ask; may be empty where a server serves only one.
        options: how items are scored.
        failures: "raise" lets a conversation that cannot be scored raise its error, "none" gives a `Reward` without a value,
            for the trainer to mask. What concerns all conversations (no such model, no server) is raised either way.
        shaping: what is done to scores; by default nothing.
        routing: which of several servers an item goes to: the "least_loaded", or by "group" the one that has the prompt.
        hedge_after: seconds without an answer after which an item is sent to a second server too.
        timeout: seconds that each item may take; an item's own timeout wins. None waits for ever.
        reconnect: seconds without any server after which the work is given up.
        security: encryption, and the token that servers ask for.

    An environment lives on the event loop that it is first used on. Close it, or use it with `async with`. Threads use
    `SyncRewardEnvironment`.
    """

    def __init__(
        self,
        addresses: Addresses,
        *,
        model: str = "",
        options: ScoreOptions | None = None,
        failures: Literal["raise", "none"] = "raise",
        shaping: Shaping | None = None,
        routing: Strategy = "least_loaded",
        hedge_after: float | None = None,
        timeout: float | None = 600.0,
        reconnect: float = 60.0,
        security: Security | None = None,
    ) -> None:
        for name, given, choices in (
            ("failures", failures, ("raise", "none")),
            ("routing", routing, STRATEGIES),
        ):
            if given not in choices:
                raise ValueError(f"{name}: must be one of {', '.join(choices)}, not {given!r}")
        self.failures = failures
        self.shaping = shaping or Shaping()
        self._shaper = Shaper(self.shaping)
        self._timeout = timeout
        self._metrics = Metrics()
        self._submitted = 0
        self._routing = routing
        self._fleet: Fleet | None = None
        self._is_closed = False

        def connect(address: str, patience: float) -> AsyncRewardClient:
            return AsyncRewardClient(
                address, model=model, options=options, timeout=timeout, reconnect=patience, security=security
            )

        def fleet() -> Fleet:
            return Fleet(addresses, connect, strategy=routing, reconnect=reconnect, hedge_after=hedge_after)

        self._make_fleet = fleet

    async def __aenter__(self) -> RewardEnvironment:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections; rewards that are on their way raise `ItemCancelledError`."""
        self._is_closed = True
        if self._fleet is not None:
            await self._fleet.close()

    # --- conversations in ---------------------------------------------------------------------------------------------

    def submit(self, conversation: Scorable) -> Pending:
        """Begins to score one conversation; its reward is awaited later.

        Raises:
            ValueError: the shaping needs all rewards of a prompt; use `submit_group`.
        """
        self._refuse_groups("submit_group()")
        return self.submit_group([conversation])[0]

    def submit_group(self, conversations: Iterable[Scorable]) -> list[Pending]:
        """Begins to score conversations that belong together, such as all answers to a prompt.

        Each reward is there as soon as its score is, or, where the shaping needs all of a prompt, once all scores are.
        """
        read = [self._read(conversation) for conversation in conversations]
        first = self._submitted
        self._submitted += len(read)
        if not self.shaping.needs_groups:
            return [Pending(asyncio.ensure_future(self._alone(first + at, one))) for at, one in enumerate(read)]
        outcomes = [asyncio.ensure_future(self._outcome(one)) for one in read]
        together = asyncio.ensure_future(self._together(first, read, outcomes))
        members = [asyncio.ensure_future(self._member(together, at)) for at in range(len(read))]
        _cancel_with(members, [together, *outcomes])
        return [Pending(one) for one in members]

    async def rewards(self, conversations: Iterable[Scorable]) -> list[Reward]:
        """The rewards of a list, in its order and numbered by it.

        Items that name a group belong together, others with those that have the same messages before the response.

        Raises:
            RewardError: the whole call failed, or an item did and `failures` is "raise".
        """
        read = [self._read(conversation) for conversation in conversations]
        outcomes = [asyncio.ensure_future(self._outcome(one)) for one in read]
        try:
            return await self._together(0, read, outcomes)
        finally:
            for outcome in outcomes:
                outcome.cancel()

    # --- rewards out --------------------------------------------------------------------------------------------------

    async def as_completed(self, pending: Iterable[Pending]) -> AsyncIterator[Reward]:
        """Rewards of what was submitted, as they are ready.

        Raises:
            RewardError: an item failed and `failures` is "raise"; the others can still be awaited.
        """
        waiting = {one._task for one in pending}
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()

    async def stream(self, conversations: Iterable[Scorable] | AsyncIterable[Scorable]) -> AsyncGenerator[Reward, None]:
        """Each conversation's reward as it is ready, while the iterable is still being consumed.

        Raises:
            RewardError: as `rewards`.
            ValueError: the shaping needs all rewards of a prompt.
        """
        self._refuse_groups("rewards()")
        ready: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
        room = asyncio.Semaphore(_AHEAD)
        running: set[asyncio.Task[Reward]] = set()

        async def feed() -> None:
            index = 0
            async for one in each(conversations):
                await room.acquire()
                task = asyncio.create_task(self._alone(index, self._read(one)))
                running.add(task)
                task.add_done_callback(ready.put_nowait)
                index += 1

        feeder = asyncio.create_task(feed())
        feeder.add_done_callback(ready.put_nowait)
        try:
            while running or not feeder.done() or not ready.empty():
                task = await ready.get()
                if task is feeder:
                    feeder.result()
                    continue
                running.discard(task)
                room.release()
                yield task.result()
        finally:
            for task in (feeder, *running):
                task.cancel()
            await asyncio.gather(feeder, *running, return_exceptions=True)

    def metrics(self, *, reset: bool = False) -> dict[str, float]:
        """Figures of all items since the last reset, as a plain dict; see `Metrics.figures`."""
        figures = self._metrics.figures()
        if reset:
            self._metrics.reset()
        return figures

    async def get_model(self) -> ModelInfo:
        """What the server tells of the model, its digest and traps included."""
        return await (await self._connected().any_client()).get_model()

    # --- between ------------------------------------------------------------------------------------------------------

    def _connected(self) -> Fleet:
        if self._is_closed:
            raise ItemCancelledError("the environment was closed")
        if self._fleet is None:
            self._fleet = self._make_fleet()
        return self._fleet

    def _refuse_groups(self, instead: str) -> None:
        if self.shaping.needs_groups:
            raise ValueError(f"centring and scaling by prompt need all rewards of a prompt; use {instead}")

    def _read(self, scorable: Scorable) -> _Read:
        """What the caller gave, read once; one odd item costs the others nothing."""
        started = time.monotonic()
        name = scorable.id if isinstance(scorable, Item) else ""
        try:
            item = item_of(scorable, default_id="")
            timeout = self._timeout if item.timeout is None else float(item.timeout)
            prompt = _prompt(item) if self._routing == "group" or self.shaping.needs_groups else None
        except RewardError as error:
            return _Read(error, name, started)
        except Exception as error:  # noqa: BLE001 - whatever the caller gave
            return _Read(InvalidRequestError(f"cannot be read: {error!r}"), name, started)
        return _Read(item, name, started, None if timeout is None else started + timeout, prompt)

    async def _outcome(self, read: _Read) -> Outcome:
        """A conversation's outcome, counted."""
        if isinstance(read.item, RewardError):
            self._metrics.failed(read.item)
            return read.item
        group = read.prompt if self._routing == "group" else None
        outcome = await self._connected().score(read.item, group, read.deadline)
        if isinstance(outcome, RewardError):
            self._metrics.failed(outcome)
        else:
            self._metrics.scored(outcome, _response_length(read.item), time.monotonic() - read.started)
        return outcome

    async def _alone(self, index: int, read: _Read) -> Reward:
        return self._rewarded(index, [read], [await self._outcome(read)])[0]

    async def _together(self, first: int, read: Sequence[_Read], outcomes: Sequence[Awaitable[Outcome]]) -> list[Reward]:
        return self._rewarded(first, read, [await outcome for outcome in outcomes])

    @staticmethod
    async def _member(together: asyncio.Future[list[Reward]], at: int) -> Reward:
        return (await asyncio.shield(together))[at]

    def _rewarded(self, first: int, read: Sequence[_Read], outcomes: Sequence[Outcome]) -> list[Reward]:
        """The rewards of outcomes that are there together, numbered from `first`."""
        if self.failures == "raise":
            for outcome in outcomes:
                if isinstance(outcome, RewardError):
                    raise outcome
        scores = [None if isinstance(outcome, RewardError) else outcome for outcome in outcomes]
        values = self._shaper.shaped([None if score is None else score.score for score in scores], [one.prompt for one in read])
        self._metrics.rewarded(values)
        return [
            Reward(
                index,
                value,
                score,
                outcome if isinstance(outcome, RewardError) else None,
                one.id,
                score.attributes if score is not None else {},
            )
            for index, (one, value, score, outcome) in enumerate(zip(read, values, scores, outcomes, strict=True), first)
        ]


def _cancel_with(tasks: Sequence[asyncio.Task[Reward]], work: Sequence[asyncio.Future[Any]]) -> None:
    """Has work cancelled when all tasks that wait for it are."""

    def ended(_: asyncio.Task[Reward]) -> None:
        if all(task.cancelled() for task in tasks):
            for one in work:
                one.cancel()

    for task in tasks:
        task.add_done_callback(ended)


def _prompt(item: Item) -> Hashable:
    """What those of one prompt have in common; None for what is alone."""
    if item.group:
        return item.group
    conversation = item.input
    if not isinstance(conversation, Conversation) or len(conversation.messages) < 2:
        return None
    return (conversation.messages[:-1], conversation.tools)


def _response_length(item: Item) -> int:
    """Characters of the response; of text all of them, and of token ids their number."""
    if isinstance(item.input, Conversation):
        return len(item.input.messages[-1].text)
    return len(item.input) if isinstance(item.input, str) else len(item.input.ids) if item.input is not None else 0
