"""The synchronous client: the asynchronous one on an event loop of its own, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

import grpc

from rm_grpc import errors
from rm_grpc.types import ModelInfo, Result, Score, ScoreOptions, TokenizeResult
from rm_grpc_client.aio import AsyncRewardClient
from rm_grpc_client.inputs import Scorable

_T = TypeVar("_T")


class RewardClient:
    """Scores conversations with a reward service; arguments and errors are those of `AsyncRewardClient`.

    A client may be used by many threads at once. Close it, or use it with `with`. Make it after a fork, not before.
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
        self._is_closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rm-grpc-client", daemon=True)
        self._thread.start()

        async def make() -> AsyncRewardClient:
            return AsyncRewardClient(
                address,
                model=model,
                options=options,
                timeout=timeout,
                reconnect=reconnect,
                attempts=attempts,
                credentials=credentials,
            )

        self._client = self._run(make())

    def __enter__(self) -> RewardClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; streams in work end with an error."""
        if self._is_closed:
            return
        self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @overload
    def score(
        self, conversations: Iterable[Scorable], *, timeout: float | None = ..., on_error: Literal["raise"] = ...
    ) -> list[Score]: ...

    @overload
    def score(
        self, conversations: Iterable[Scorable], *, timeout: float | None = ..., on_error: Literal["return"]
    ) -> list[Result]: ...

    def score(
        self,
        conversations: Iterable[Scorable],
        *,
        timeout: float | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Score] | list[Result]:
        """See `AsyncRewardClient.score`."""
        items = list(conversations)
        if on_error == "return":
            return self._run(self._client.score(items, timeout=timeout, on_error="return"))
        return self._run(self._client.score(items, timeout=timeout))

    def score_stream(self, conversations: Iterable[Scorable], *, timeout: float | None = None) -> Iterator[Result]:
        """See `AsyncRewardClient.score_stream`. The iterable may block: it is consumed in a thread of its own."""
        feeder = None if isinstance(conversations, (list, tuple)) else ThreadPoolExecutor(1, "rm-grpc-feeder")
        source = conversations if feeder is None else _in_thread(conversations, feeder)
        batches = self._client.score_batches(source, timeout=timeout)
        try:
            while (batch := self._run(_next(batches))) is not None:
                yield from batch
        finally:
            self._abandon(batches)
            if feeder is not None:
                feeder.shutdown(wait=False, cancel_futures=True)

    def _abandon(self, batches: AsyncGenerator[list[Result], None]) -> None:
        if threading.current_thread() is self._thread:
            # The garbage collector may run on any thread; the loop's own must not wait for itself.
            self._closing = self._loop.create_task(batches.aclose())
        elif not self._is_closed:
            self._run(_close(batches))

    def list_models(self) -> list[ModelInfo]:
        """See `AsyncRewardClient.list_models`."""
        return self._run(self._client.list_models())

    def get_model(self, name: str | None = None) -> ModelInfo:
        """See `AsyncRewardClient.get_model`."""
        return self._run(self._client.get_model(name))

    def tokenize(self, conversations: Sequence[Scorable]) -> list[TokenizeResult]:
        """See `AsyncRewardClient.tokenize`."""
        return self._run(self._client.tokenize(conversations))

    async def _end(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs work on the client's loop. It has ended when this returns or raises, also where the wait is interrupted."""
        ended = threading.Event()

        async def tracked() -> _T:
            try:
                return await work
            finally:
                ended.set()

        if self._is_closed:
            work.close()
            raise RuntimeError("this client is closed")
        future = asyncio.run_coroutine_threadsafe(tracked(), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise errors.ItemCancelledError("the client was closed") from None
        except BaseException:
            if future.cancel():
                ended.wait(timeout=5)
            raise


async def _next(batches: AsyncIterator[list[Result]]) -> list[Result] | None:
    return await anext(batches, None)


async def _close(batches: AsyncGenerator[list[Result], None]) -> None:
    await batches.aclose()


async def _in_thread(items: Iterable[_T], thread: ThreadPoolExecutor) -> AsyncIterator[_T]:
    """An iterable that may block, consumed one item at a time in a thread."""
    loop, end = asyncio.get_running_loop(), object()
    iterator = iter(items)
    while (item := await loop.run_in_executor(thread, next, iterator, end)) is not end:
        yield item  # type: ignore[misc]  # mypy cannot see that it is not the end mark
