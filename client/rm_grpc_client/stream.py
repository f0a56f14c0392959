"""One score_stream at work: a feeder, connections one after another around a `Session`, and a clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from rm_grpc import errors
from rm_grpc.types import Result
from rm_grpc.v1 import reward_service_pb2_grpc
from rm_grpc_client.inputs import Scorable
from rm_grpc_client.ordering import SubmissionOrder
from rm_grpc_client.security import Security
from rm_grpc_client.session import Session

if TYPE_CHECKING:
    Stub = reward_service_pb2_grpc.RewardServiceAsyncStub

_T = TypeVar("_T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds between attempts to connect."""
_FAILED_WRITE = "Internal error from Core"
"""What grpc ends a call with, as INTERNAL, when a message meets a connection that has just died."""
_LOSSES = errors.UnavailableError, errors.ItemCancelledError
"""Ends of a call after which another may go well. A cancelled one, when nobody here did, is a server or a proxy that goes."""
_LINGER_SECONDS = 1.0
"""For a connection to end by itself, once all results are given."""


class ScoreStream:
    """One score_stream at work: a feeder, a driver of connections, and the results between them and the caller.

    Args:
        security: what each call carries.
        in_order: whether results are given in the order of submission.
    """

    def __init__(self, session: Session, stub: Stub, reconnect: float, *, security: Security, in_order: bool = False) -> None:
        self._session = session
        self._stub = stub
        self._reconnect = reconnect
        self._security = security
        self._order = SubmissionOrder() if in_order else None
        self._results: list[Result] = []
        self._ready = asyncio.Event()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._wakes_at = 0.0
        self._sooner = asyncio.Event()
        """Set where the clock is to wake before `_wakes_at`."""
        self._lost_at: float | None = None
        self._last_error: object = None
        self._tasks: list[asyncio.Task[None]] = []

    async def batches(self, conversations: Iterable[Scorable] | AsyncIterable[Scorable]) -> AsyncGenerator[list[Result], None]:
        """Results as they are ready, those that became so together in one list, until all are given."""
        self._start(conversations)
        try:
            while (batch := await self._next_results()) is not None:
                yield batch
            await asyncio.wait([self._driver], timeout=_LINGER_SECONDS)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def withdraw(self, index: int) -> None:
        """Takes back the item of that position; its result is CANCELLED unless it is scored already."""
        self._give(self._session.withdraw(index))
        self._changed.set()

    def _start(self, conversations: Iterable[Scorable] | AsyncIterable[Scorable]) -> None:
        """Begins to feed, to connect, and to watch the time."""
        self._driver = asyncio.create_task(self._drive())
        self._tasks = [asyncio.create_task(self._feed(conversations)), self._driver, asyncio.create_task(self._keep_time())]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._ready.set())

    async def _next_results(self) -> list[Result] | None:
        """The results that are ready, waiting for some; None after the last. Raises what a task met."""
        while not self._results:
            for task in self._tasks:
                if task.done():
                    task.result()
            if self._session.is_finished:
                return None
            self._ready.clear()
            await self._ready.wait()
        results, self._results = self._results, []
        self._room.set()
        return results

    async def _feed(self, conversations: Iterable[Scorable] | AsyncIterable[Scorable]) -> None:
        """Takes items from the caller while there is room."""
        async for conversation in each(conversations):
            if (result := self._session.take(conversation, time.monotonic())) is not None:
                self._give([result])
            self._changed.set()
            # Results that the caller has not taken count too: a slow caller is not read ahead of.
            while not self._session.has_room or self._untaken >= self._session.window:
                self._room.clear()
                await self._room.wait()
        self._session.source_ended = True
        self._changed.set()
        self._ready.set()

    @property
    def _untaken(self) -> int:
        return len(self._results) + (len(self._order) if self._order is not None else 0)

    async def _drive(self) -> None:
        """Keeps a connection for as long as results are owed."""
        pause = _FIRST_PAUSE
        while not self._session.is_finished:
            if self._session.owes_nothing:
                self._lost_at = None
                if not self._give(self._session.take_settled()):
                    await self._wait_for_change()
                continue
            if await self._connection():
                continue
            now = time.monotonic()
            self._lost_at = now if self._lost_at is None else self._lost_at
            if now - self._lost_at > self._reconnect:
                raise errors.UnavailableError(f"no server answered for {self._reconnect:g} s; last: {self._last_error}")
            pause = _FIRST_PAUSE if self._lost_at == now else min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _keep_time(self) -> None:
        """Settles what time alone settles, whatever the connection does."""
        while True:
            latest = time.monotonic() + _LONGEST_PAUSE
            wakeup = self._session.next_wakeup()
            self._wakes_at = latest if wakeup is None else min(wakeup, latest)
            self._sooner.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._sooner.wait(), max(0.01, self._wakes_at - time.monotonic()))
            self._give(self._session.expire(time.monotonic()))
            self._changed.set()

    async def _connection(self) -> bool:
        """One connection to its end; whether everything was answered. Raises what sending again cannot mend."""
        call = self._stub.ScoreBatch(metadata=self._security.metadata())
        sender = asyncio.create_task(self._send(call))
        try:
            async for response in call:
                self._lost_at = None
                self._give(self._session.receive(response, time.monotonic()))
                self._changed.set()
                if (retry := self._session.next_retry) is not None and retry < self._wakes_at:
                    self._sooner.set()
            if self._session.is_finished:
                return True
            # A server's death can look like the end of its answers.
            self._last_error = "the stream ended before every item was answered"
        except grpc.aio.AioRpcError as error:
            lost = typed(error)
            if not isinstance(lost, _LOSSES) and error.details() != _FAILED_WRITE:
                raise lost from error
            self._last_error = lost
        finally:
            sender.cancel()
            call.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return False

    async def _send(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the reader meets the end of the call, and tells it
            await call.write(self._session.opening())
            while not self._session.is_finished:
                while (message := self._session.next_message(time.monotonic())) is not None:
                    await call.write(message)
                if not self._give(self._session.take_settled()):
                    await self._wait_for_change()
            await call.done_writing()

    async def _wait_for_change(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        self._give(self._session.take_settled())

    def _give(self, results: list[Result]) -> bool:
        """Passes results on; whether there were any."""
        if results:
            self._results.extend(results if self._order is None else self._order.take(results))
            self._ready.set()
        self._room.set()
        return bool(results)


async def each(items: Iterable[_T] | AsyncIterable[_T]) -> AsyncIterator[_T]:
    """The items of either kind of iterable; a plain one lets others run now and then."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for at, item in enumerate(items):
            if at % 64 == 63:
                await asyncio.sleep(0)
            yield item


def typed(error: grpc.aio.AioRpcError) -> errors.RewardError:
    """The error that a failed call tells of."""
    return errors.from_rpc_error(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
