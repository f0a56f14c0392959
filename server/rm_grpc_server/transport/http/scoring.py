"""What all faces do with a request: find the model, score, and fail as a whole or item by item."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from rm_grpc import convert, errors
from rm_grpc.types import Item, Result, Score, ScoreOptions
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.engine.entry import Outcome
from rm_grpc_server.transport.admission import find_engine
from rm_grpc_server.transport.calls import Calls
from rm_grpc_server.transport.door import Tokens
from rm_grpc_server.transport.http.bodies import BodyBudget
from rm_grpc_server.transport.submission import next_over, submitted

_T = TypeVar("_T")
_MESSAGES, _IDS = "conversation.messages", "tokens.ids"
"""Fields of an item, as the engine names them."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a face makes of a request.

    Attributes:
        engine: of the model that was asked for.
        items: what is to be scored, or why it cannot be.
        options: how.
        names: what the caller calls each item, the field of its body; for answers that fail as a whole.
    """

    engine: Engine
    items: Sequence[Item | errors.RewardError]
    options: ScoreOptions
    names: Sequence[str] = ()


class HttpScoring:
    """Scores for faces, over the same engines and under the same limits as gRPC.

    Attributes:
        calls: the methods of the service.
        bodies: how much of requests is held.
        tokens: what callers must bring; None for nothing.
    """

    def __init__(self, calls: Calls, bodies: BodyBudget, tokens: Tokens | None) -> None:
        self.calls = calls
        self.engines = calls.engines
        self.bodies = bodies
        self.tokens = tokens
        self._limits = calls.limits
        self._drain = calls.drain

    @property
    def is_ready(self) -> bool:
        """Whether every model can score and new items are taken."""
        return not self._drain.begun and all(engine.is_healthy for engine in self.engines.values())

    def engine(self, name: str) -> Engine:
        """See `find_engine`."""
        return find_engine(self.engines, name)

    async def scores(self, request: Request, call: Call) -> list[Score]:
        """The scores of all items, in their order.

        Raises:
            RewardError: of the first item that could not be scored; the others are taken back, for a face that answers with
                numbers has no place for the error of one.
            ClientDisconnect: nobody waits for the answer any more.
        """
        with self._submitted(call, await request.body()) as futures:
            return await while_connected(request, _all_or_first_error(futures, call.names))

    async def results(self, request: Request, call: Call) -> AsyncGenerator[Result, None]:
        """Each item's outcome as it is ready. Closing the iterator takes the rest back."""
        with self._submitted(call, await request.body()) as futures:
            waiting = {future: at for at, future in enumerate(futures)}
            while waiting:
                for at in await next_over(waiting):
                    item = call.items[at]
                    yield Result(item.id if isinstance(item, Item) else "", at, _as_sent(futures[at].result()))

    @contextmanager
    def _submitted(self, call: Call, body: bytes) -> Iterator[list[asyncio.Future[Outcome]]]:
        if len(call.items) > self._limits.window_items:
            raise errors.InvalidRequestError(
                f"{len(call.items)} conversations in one request, and at most {self._limits.window_items} are taken"
            )
        if self._drain.begun:
            raise self._drain.refusal()
        share = math.ceil(len(body) / max(1, sum(isinstance(item, Item) for item in call.items)))
        with self._drain.call(), submitted(call.engine, call.items, call.options, sizes=[share] * len(call.items)) as futures:
            yield futures


def _named(error: errors.RewardError, name: str) -> errors.RewardError:
    """The error with its field as the caller knows it; what is no fault of the item names none."""
    if not error.field and not isinstance(error, errors.InvalidRequestError):
        return error
    if name == "messages" and error.field.startswith(_MESSAGES):
        return error.at(name + error.field.removeprefix(_MESSAGES))
    if error.field.startswith(_IDS):
        return error.at(name + error.field.removeprefix(_IDS))
    return error if error.field.startswith("options.") else error.at(name)


def _as_sent(outcome: Outcome) -> Outcome:
    """The outcome with its numbers in the precision of the contract, so that they are those of gRPC to the last bit."""
    return outcome if isinstance(outcome, errors.RewardError) else convert.score_from_proto(convert.score_to_proto(outcome))


async def _all_or_first_error(futures: Sequence[asyncio.Future[Outcome]], names: Sequence[str]) -> list[Score]:
    waiting = {future: at for at, future in enumerate(futures)}
    while waiting:
        for at in await next_over(waiting):
            if isinstance(error := futures[at].result(), errors.RewardError):
                raise _named(error, names[at])
    outcomes = [_as_sent(future.result()) for future in futures]
    return [outcome for outcome in outcomes if isinstance(outcome, Score)]


async def while_connected(request: Request, work: Awaitable[_T]) -> _T:
    """The work's answer.

    Raises:
        ClientDisconnect: the client went away first; the work is cancelled.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
