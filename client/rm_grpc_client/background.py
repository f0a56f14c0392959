"""An event loop on a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from rm_grpc.errors import ItemCancelledError

_T = TypeVar("_T")
_S = TypeVar("_S")
_END = object()


class BackgroundLoop:
    """Runs coroutines for threads. Make it after a fork, not before."""

    def __init__(self, name: str, what: str) -> None:
        self._what = what
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.is_closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller is on the loop's own thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Begins work.

        Raises:
            RuntimeError: the loop is closed, or this process was forked after it was made.
        """
        with self._lock:
            told = f"this {self._what} is closed" if self.is_closed else ""
            if os.getpid() != self._pid:
                told = f"this {self._what} belongs to the process that this one was forked from; make one here"
            if told:
                work.close()
                raise RuntimeError(told)
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs work. It has ended when this returns or raises, also where the wait is interrupted.

        Raises:
            RuntimeError: the loop is closed.
            ItemCancelledError: it was closed meanwhile.
        """
        ended = threading.Event()

        async def tracked() -> _T:
            try:
                return await work
            finally:
                ended.set()

        try:
            future = self.submit(tracked())
        except RuntimeError:
            work.close()
            raise
        try:
            return future.result()
        except CancelledError:
            raise ItemCancelledError(f"the {self._what} was closed") from None
        except BaseException:
            if future.cancel():
                ended.wait(timeout=5)
            raise

    def stream(
        self, make: Callable[[Iterable[_S] | AsyncIterable[_S]], AsyncGenerator[_T, None]], items: Iterable[_S]
    ) -> Generator[_T, None, None]:
        """What an asynchronous generator makes of items. These may block: a thread of their own consumes them."""
        feeder = None if isinstance(items, (list, tuple)) else ThreadPoolExecutor(1, "rm-grpc-feeder")
        made = make(items if feeder is None else _in_thread(items, feeder))
        try:
            while (one := self.run(_next(made))) is not _END:
                yield one  # type: ignore[misc]  # mypy cannot see that it is not the end mark
        finally:
            self._abandon(made)
            if feeder is not None:
                feeder.shutdown(wait=False, cancel_futures=True)

    def _abandon(self, made: AsyncGenerator[_T, None]) -> None:
        if self.is_current:
            # The garbage collector may run on any thread; the loop's own must not wait for itself.
            self._closing = asyncio.get_running_loop().create_task(_close(made))
        elif not self.is_closed:
            self.run(_close(made))

    def close(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        """Ends what runs, then does `last`, then ends the loop and its thread."""
        if self.is_current:
            raise RuntimeError(f"this {self._what} cannot be closed from within its own work")
        with self._lock:
            if self.is_closed or os.getpid() != self._pid:
                return
            self.is_closed = True

        async def end() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            if last is not None:
                await last()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(made: AsyncGenerator[_T, None]) -> object:
    return await anext(made, _END)


async def _close(made: AsyncGenerator[_T, None]) -> None:
    await made.aclose()


async def _in_thread(items: Iterable[_S], thread: ThreadPoolExecutor) -> AsyncIterator[_S]:
    """An iterable that may block, consumed one item at a time in a thread."""
    loop = asyncio.get_running_loop()
    iterator = iter(items)
    while (item := await loop.run_in_executor(thread, next, iterator, _END)) is not _END:
        yield item  # type: ignore[misc]  # mypy cannot see that it is not the end mark
