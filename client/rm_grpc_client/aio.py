"""The asynchronous client: connections around a `Session`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import grpc

from rm_grpc import convert, errors
from rm_grpc.types import ModelInfo, Result, Score, ScoreOptions, TokenizeResult
from rm_grpc.v1 import reward_service_pb2, reward_service_pb2_grpc
from rm_grpc_client.channel import MAX_MESSAGE_BYTES, open_channel
from rm_grpc_client.failures import BatchFailedError
from rm_grpc_client.inputs import Scorable, item_of
from rm_grpc_client.session import Session

if TYPE_CHECKING:
    Stub = reward_service_pb2_grpc.RewardServiceAsyncStub

_T = TypeVar("_T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds between attempts to connect."""


class AsyncRewardClient:
    """Scores conversations with a reward service.

    Args:
        address: host:port of the server.
        model: the model to ask; may be empty where the server serves only one.
        options: how items are scored, for example what is done with control tokens inside content.
        timeout: seconds that each item may take; an item's own timeout wins. None waits for ever.
        reconnect: seconds without any answer after which a lost server is given up.
        attempts: how often an item is tried that the server has no room for.
        credentials: for an encrypted connection.

    A client may be used by many tasks at once. Close it, or use it with `async with`.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str = "",
        options: ScoreOptions | None = None,
        timeout: float | None = 600.0,
        reconnect: float = 60.0,
        attempts: int = 20,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.address = address
        self.model = model
        self.options = options or ScoreOptions()
        self.timeout = timeout
        self.reconnect = reconnect
        self.attempts = attempts
        self._channel = open_channel(address, credentials)
        self._stub = cast("Stub", reward_service_pb2_grpc.RewardServiceStub(self._channel))

    async def __aenter__(self) -> AsyncRewardClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; streams in work end with an error."""
        await self._channel.close()

    @overload
    async def score(
        self, conversations: Iterable[Scorable], *, timeout: float | None = ..., on_error: Literal["raise"] = ...
    ) -> list[Score]: ...

    @overload
    async def score(
        self, conversations: Iterable[Scorable], *, timeout: float | None = ..., on_error: Literal["return"]
    ) -> list[Result]: ...

    async def score(
        self,
        conversations: Iterable[Scorable],
        *,
        timeout: float | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Score] | list[Result]:
        """Scores a list, in its order.

        Args:
            timeout: seconds that each item may take, instead of the client's.
            on_error: "raise" gives scores, and raises when any item failed; "return" gives a `Result` for each item.

        Raises:
            BatchFailedError: items failed; it holds all results, those that were scored too.
            RewardError: the whole call failed.
        """
        results = [result async for result in self.score_stream(conversations, timeout=timeout)]
        results.sort(key=lambda result: result.index)
        if on_error == "return":
            return results
        scores = [result.outcome for result in results if isinstance(result.outcome, Score)]
        if len(scores) < len(results):
            raise BatchFailedError(results)
        return scores

    async def score_stream(
        self, conversations: Iterable[Scorable] | AsyncIterable[Scorable], *, timeout: float | None = None
    ) -> AsyncIterator[Result]:
        """Scores conversations as they come, and yields each result as it is ready.

        The iterable is consumed while results are yielded, no further ahead than the server's window. An iterable that blocks
        must be asynchronous. A lost connection is opened again and what was unanswered is sent again.

        Raises:
            RewardError: the stream as a whole failed: no such model, or no server for `reconnect` seconds.
        """
        async with aclosing(self.score_batches(conversations, timeout=timeout)) as batches:
            async for batch in batches:
                for result in batch:
                    yield result

    async def score_batches(
        self, conversations: Iterable[Scorable] | AsyncIterable[Scorable], *, timeout: float | None = None
    ) -> AsyncGenerator[list[Result], None]:
        """As `score_stream`, with the results that became ready together in one list."""
        session = Session(
            model=self.model,
            options=self.options,
            timeout=self.timeout if timeout is None else timeout,
            attempts=self.attempts,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        stream = _Stream(session, self._stub, self.reconnect)
        stream.start(conversations)
        try:
            while (batch := await stream.next_results()) is not None:
                yield batch
            await stream.finish(grace=1.0)
        finally:
            await stream.finish(grace=0.0)

    async def list_models(self) -> list[ModelInfo]:
        """The models that the server serves."""
        response = await self._unary(self._stub.ListModels(reward_service_pb2.ListModelsRequest(), timeout=self.timeout))
        return [convert.model_info_from_proto(model) for model in response.models]

    async def get_model(self, name: str | None = None) -> ModelInfo:
        """One model; by default the client's."""
        request = reward_service_pb2.GetModelRequest(name=self.model if name is None else name)
        response = await self._unary(self._stub.GetModel(request, timeout=self.timeout))
        return convert.model_info_from_proto(response.model)

    async def tokenize(self, conversations: Sequence[Scorable]) -> list[TokenizeResult]:
        """What the model would read for each conversation, and the error that scoring it would give."""
        items = [convert.item_to_proto(item_of(one, default_id=str(at))) for at, one in enumerate(conversations)]
        if not items:
            return []
        request = reward_service_pb2.TokenizeRequest(
            model=self.model, options=convert.options_to_proto(self.options), items=items
        )
        response = await self._unary(self._stub.Tokenize(request, timeout=self.timeout))
        return [convert.tokenize_result_from_proto(result) for result in response.results]

    async def _unary(self, call: grpc.aio.UnaryUnaryCall[Any, _T]) -> _T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise _typed(error) from error


class _Stream:
    """One score_stream at work: a feeder, a driver of connections, and the results between them and the caller."""

    def __init__(self, session: Session, stub: Stub, reconnect: float) -> None:
        self._session = session
        self._stub = stub
        self._reconnect = reconnect
        self._results: list[Result] = []
        self._ready = asyncio.Event()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._lost_at: float | None = None
        self._last_error: object = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, conversations: Iterable[Scorable] | AsyncIterable[Scorable]) -> None:
        """Begins to feed, to connect, and to watch the time."""
        for work in (self._feed(conversations), self._drive(), self._keep_time()):
            task = asyncio.create_task(work)
            task.add_done_callback(lambda _: self._ready.set())
            self._tasks.append(task)

    async def finish(self, grace: float) -> None:
        """Ends the work: a connection has `grace` seconds to end by itself."""
        driver = self._tasks[1]
        if grace and not driver.done():
            await asyncio.wait([driver], timeout=grace)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def next_results(self) -> list[Result] | None:
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
        async for conversation in _each(conversations):
            if (result := self._session.take(conversation, time.monotonic())) is not None:
                self._give([result])
            self._changed.set()
            # Results that the caller has not taken count too: a slow caller is not read ahead of.
            while not self._session.has_room or len(self._results) >= self._session.window:
                self._room.clear()
                await self._room.wait()
        self._session.source_ended = True
        self._changed.set()
        self._ready.set()

    async def _drive(self) -> None:
        """Keeps a connection for as long as results are owed."""
        pause = _FIRST_PAUSE
        while not self._session.is_finished:
            if self._session.owes_nothing:
                self._lost_at = None
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
            wakeup = self._session.next_wakeup()
            delay = _LONGEST_PAUSE if wakeup is None else wakeup - time.monotonic()
            await asyncio.sleep(min(max(0.01, delay), _LONGEST_PAUSE))
            self._give(self._session.expire(time.monotonic()))
            self._changed.set()

    async def _connection(self) -> bool:
        """One connection to its end; whether everything was answered. Raises what sending again cannot mend."""
        call = self._stub.ScoreBatch()
        sender = asyncio.create_task(self._send(call))
        try:
            async for response in call:
                self._lost_at = None
                self._give(self._session.receive(response, time.monotonic()))
                self._changed.set()
            if self._session.is_finished:
                return True
            # A server's death can look like the end of its answers.
            self._last_error = "the stream ended before every item was answered"
        except grpc.aio.AioRpcError as error:
            typed = _typed(error)
            if not isinstance(typed, errors.UnavailableError):
                raise typed from error
            self._last_error = typed
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
                await self._wait_for_change()
            await call.done_writing()

    async def _wait_for_change(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        self._give(self._session.expire(time.monotonic()))

    def _give(self, results: list[Result]) -> None:
        if results:
            self._results.extend(results)
            self._ready.set()
        self._room.set()


async def _each(items: Iterable[_T] | AsyncIterable[_T]) -> AsyncIterator[_T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for at, item in enumerate(items):
            if at % 64 == 63:
                await asyncio.sleep(0)
            yield item


def _typed(error: grpc.aio.AioRpcError) -> errors.RewardError:
    return errors.from_rpc_error(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
