"""The inside of a replica that scores whole items: as many batches at a time as its scorer takes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable

from rm_grpc_server.engine.messages import Done, Failed, Message, Stages, Work
from rm_grpc_server.engine.progress import Progress
from rm_grpc_server.scoring.outcomes import told
from rm_grpc_server.scoring.protocols import BatchOutcome, RequestScorer

_LOG = logging.getLogger(__name__)
_LOOP_ENDED = 73
CLOSE_SECONDS = 5.0
"""How long a scorer may take to close."""


class RequestPipeline:
    """Scores batches on an event loop of its own, on a thread of its own; see `Pipeline`."""

    def __init__(self, scorer: RequestScorer, send: Callable[[Message], None], progress: Progress) -> None:
        self._scorer = scorer
        self._send = send
        self._progress = progress
        self._loop = asyncio.new_event_loop()
        self._turns = asyncio.Semaphore(scorer.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run_loop, name="requests", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Takes a batch."""
        self._loop.call_soon_threadsafe(self._begin, work, time.monotonic())

    def close(self) -> None:
        """Gives up what is in work, and lets the scorer close what it has open; raises where it cannot, or takes too long."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(CLOSE_SECONDS)

    def _run_loop(self) -> None:
        try:
            self._loop.run_forever()
        finally:  # nothing that was sent here would ever be answered
            os._exit(_LOOP_ENDED)

    async def _close(self) -> None:
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._scorer.close()

    def _begin(self, work: Work, received: float) -> None:
        task = self._loop.create_task(self._run(work, received))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Work, received: float) -> None:
        async with self._turns:
            started = time.monotonic()
            self._progress.on_device = work.number
            try:
                outcomes = await self._scorer.score(work.conversations) if work.conversations else []  # type: ignore[arg-type]  # items, for such a scorer
                stages = Stages(received, started, started, time.monotonic())
                self._tell(Done(work.number, BatchOutcome(outcomes, [0] * len(outcomes)), stages))
            except BaseException as error:
                if self._is_closing and isinstance(error, asyncio.CancelledError):
                    raise
                if len(work.conversations) == 1:  # others are tried apart, until the one at fault is alone
                    _LOG.exception("a batch failed")
                self._tell(Failed(work.number, told(error), out_of_memory=isinstance(error, MemoryError)))

    def _tell(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # the server is gone; whoever reads from it ends this process
            self._send(message)
