"""One server of a fleet: a stream that lasts, items that come one by one, and each item's outcome as a future."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import grpc

from rm_grpc import errors
from rm_grpc.types import Item, Result, Score
from rm_grpc_client.aio import AsyncRewardClient

Outcome = Score | errors.RewardError

_WATCH = "/grpc.health.v1.Health/Watch"
_SERVING = b"\x08\x01"
"""HealthCheckResponse of status SERVING, as protobuf writes it: one message is not worth a package."""
_WATCH_PAUSE = 1.0
"""Seconds between attempts to watch a server's health."""
_DEADLINE_GRACE = 1.0
"""Seconds past an item's deadline in which the server's own answer is still awaited."""
UNANSWERED_BY = "unanswered_by"
"""In the metadata of a deadline that passed without a word of the server: the server, which is then none to ask first."""


class _Job:
    """An item on a lane.

    Attributes:
        future: its outcome, or the exception that ended the whole stream.
        index: its number on the stream, once it was taken.
    """

    __slots__ = ("deadline", "future", "index", "item")

    def __init__(self, item: Item, deadline: float | None, future: asyncio.Future[Outcome]) -> None:
        self.item = item
        self.deadline = deadline
        self.future = future
        self.index: int | None = None


class Lane:
    """Items to one server and back. Lives on the event loop that it was made on."""

    def __init__(self, client: AsyncRewardClient) -> None:
        self.client = client
        self._jobs: dict[int, _Job] = {}
        self._queue: asyncio.Queue[_Job] = asyncio.Queue()
        self._stream: asyncio.Task[None] | None = None
        self._taken = 0
        self._is_closed = False

    def submit(self, item: Item, deadline: float | None) -> asyncio.Future[Outcome]:
        """An item's outcome, or the error that ended the lane's stream as an exception.

        Cancelling the future takes the item back.

        Args:
            deadline: on the monotonic clock; shortly after it there is an outcome, whatever the server does.

        Raises:
            ItemCancelledError: the lane is closed.
        """
        if self._is_closed:
            raise errors.ItemCancelledError("the environment was closed")
        loop = asyncio.get_running_loop()
        job = _Job(item, deadline, loop.create_future())
        if deadline is not None:
            delay = deadline - time.monotonic() + _DEADLINE_GRACE
            timer = loop.call_later(max(0.0, delay), self._expire, job)
            job.future.add_done_callback(lambda _: timer.cancel())
        job.future.add_done_callback(lambda future: self._withdraw(job) if future.cancelled() else None)
        self._queue.put_nowait(job)
        if self._stream is None:
            self._stream = asyncio.create_task(self._run())
        return job.future

    async def watch(self, told: Callable[[bool], None]) -> None:
        """Tells the server's health whenever it changes, until cancelled. A server without health service counts as healthy."""
        watch: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self.client.channel.unary_stream(_WATCH)
        while True:
            try:
                async for status in watch(b"", metadata=self.client.security.metadata()):
                    told(status == _SERVING)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    told(True)
                    return
            told(False)
            await asyncio.sleep(_WATCH_PAUSE)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._jobs and self._queue.empty()

    async def close(self) -> None:
        """Ends it; what has no outcome is cancelled."""
        self._is_closed = True
        if self._stream is not None:
            self._stream.cancel()
            await asyncio.gather(self._stream, return_exceptions=True)
        for job in self._outstanding():
            job.future.cancel()
        await self.client.close()

    async def _run(self) -> None:
        """One stream to its end. It ends with an error only: the server was lost, or does not serve what is asked for."""
        self._taken = 0
        try:
            self._open = self.client.open_stream()
            async for batch in self._open.batches(self._items()):
                for result in batch:
                    self._settle(result)
        except errors.RewardError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever ends the stream, its items have an outcome
            self._fail(errors.InternalError(f"the stream to {self.client.address} failed: {error!r}"))

    def _fail(self, error: errors.RewardError) -> None:
        self._stream = None
        for job in self._outstanding():
            if not job.future.done():
                job.future.set_exception(error)

    async def _items(self) -> AsyncIterator[Item]:
        while True:
            job = await self._queue.get()
            if job.future.done():
                continue
            self._jobs[self._taken] = job
            job.index = self._taken
            self._taken += 1
            if job.deadline is None:
                yield job.item
            else:
                yield replace(job.item, timeout=max(0.0, job.deadline - time.monotonic()))

    def _settle(self, result: Result) -> None:
        job = self._jobs.pop(result.index)
        if not job.future.done():
            job.future.set_result(result.outcome)

    def _expire(self, job: _Job) -> None:
        if not job.future.done():
            address = self.client.address
            told = f"the item's time ran out without an answer of {address}"
            job.future.set_result(errors.DeadlineExceededError(told, metadata={UNANSWERED_BY: address}))
            self._withdraw(job)

    def _withdraw(self, job: _Job) -> None:
        if job.index is not None and self._jobs.get(job.index) is job:
            self._open.withdraw(job.index)

    def _outstanding(self) -> list[_Job]:
        jobs = list(self._jobs.values())
        self._jobs.clear()
        while not self._queue.empty():
            jobs.append(self._queue.get_nowait())
        return jobs
