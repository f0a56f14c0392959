"""The inside of a replica: three stages, each on its own thread, so that one batch is packed while another is computed.

prepare (pack, copy in) -> launch (forward) -> finish (read back). Between stages wait at most as many batches as the server
sends ahead. All forwards run on one thread: several that take turns on one model reached 0.6 of its speed.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rm_grpc_server.engine.messages import Done, Failed, Message, Stages, Work
from rm_grpc_server.engine.progress import Progress
from rm_grpc_server.scoring.protocols import ReplicaScorer

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    """A batch on its way; or the simplest of all, sent after one that failed, with what is told of that one if it passes."""

    work: Work
    value: Any
    received: float
    failure: Failed | None = None
    packed: float = 0.0
    started: float = 0.0


class Pipeline:
    """Scores batches in the order they come.

    Args:
        scorer: what runs in the stages.
        send: takes what happens to batches; called from the stages' threads.
        progress: told of each batch that begins; should the process die now, that batch may be why.
        die: called when the scorer no longer scores anything at all.
    """

    def __init__(
        self, scorer: ReplicaScorer, send: Callable[[Message], None], progress: Progress, die: Callable[[], None]
    ) -> None:
        self._scorer = scorer
        self._send = send
        self._progress = progress
        self._die = die
        self._queues: list[queue.SimpleQueue[_Batch | None]] = [queue.SimpleQueue() for _ in range(3)]
        self._threads = [
            threading.Thread(target=self._run, args=(stage, at), name=stage.__name__.strip("_"), daemon=True)
            for at, stage in enumerate((self._prepare, self._launch, self._finish))
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work) -> None:
        """Takes a batch."""
        self._queues[0].put(_Batch(work, work.conversations, time.monotonic()))

    def close(self) -> None:
        """Lets the threads end after what was taken."""
        self._queues[0].put(None)

    def _run(self, stage: Callable[[_Batch], None], at: int) -> None:
        while (batch := self._queues[at].get()) is not None:
            try:
                stage(batch)
            except BaseException as error:  # noqa: BLE001, PERF203 - whatever it is, the batch must have an answer
                self._fail(batch, error, on_device=stage == self._launch)
            else:
                if at + 1 < len(self._queues):
                    self._queues[at + 1].put(batch)
        if at + 1 < len(self._queues):
            self._queues[at + 1].put(None)

    def _prepare(self, batch: _Batch) -> None:
        if batch.failure is None:
            self._progress.packing = batch.work.number
        batch.value = self._scorer.prepare(batch.value)
        batch.packed = time.monotonic()

    def _launch(self, batch: _Batch) -> None:
        if batch.failure is None:
            self._progress.on_device = batch.work.number
        batch.started = time.monotonic()
        batch.value = self._scorer.launch(batch.value)

    def _finish(self, batch: _Batch) -> None:
        result = self._scorer.finish(batch.value)
        if batch.failure is not None:
            self._send(batch.failure)
            return
        stages = Stages(batch.received, batch.packed, batch.started, time.monotonic())
        self._send(Done(batch.work.number, result, stages))

    def _fail(self, batch: _Batch, error: BaseException, *, on_device: bool) -> None:
        """Tells of a failed batch; a scorer that fails on the simplest of conversations too is of no more use.

        Where the forward failed, that one is tried before the next batch comes to the device, and under suspicion. Elsewhere it
        goes through the stages like any other: the forward is for one thread alone, or ranks would fall out of step.
        """
        if batch.failure is not None:
            self._give_up(error)
            return
        out_of_memory = isinstance(error, MemoryError)
        failure = Failed(batch.work.number, str(error) if out_of_memory else repr(error), out_of_memory=out_of_memory)
        if out_of_memory and len(batch.work.conversations) > 1:  # its halves tell more
            self._send(failure)
            return
        _LOG.error("a batch failed", exc_info=error)
        probe = _Batch(batch.work, self._scorer.description.probe(), time.monotonic(), failure=failure)
        if not on_device:
            self._queues[0].put(probe)
            return
        try:
            for stage in (self._prepare, self._launch, self._finish):
                stage(probe)
        except BaseException as again:  # noqa: BLE001 - a process whose device is lost may raise anything
            self._give_up(again)

    def _give_up(self, error: BaseException) -> None:
        _LOG.critical("the scorer fails on everything now: %r", error)
        self._die()
