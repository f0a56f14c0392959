"""A real server in this process, on a thread and a port of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType

from rm_grpc_server.config import ServerSettings
from rm_grpc_server.models.packed import PackedBatch
from rm_grpc_server.scoring.protocols import Outcome, ReplicaScorer
from rm_grpc_server.serve import Model, running
from rm_grpc_server.transport.server import RewardServer


class ServerThread:
    """Serves loaded models until the block ends.

    Attributes:
        address: where.
    """

    def __init__(self, models: Sequence[Model], **settings: object) -> None:
        self._models = models
        self._settings = ServerSettings.model_validate({"listen": "127.0.0.1:0", **settings})
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: RewardServer | None = None
        self.address = ""

    def __enter__(self) -> ServerThread:
        self._thread.start()
        self._block = running(self._settings, self._models)
        self._server = self.call(self._block.__aenter__())
        self.address = self._server.address
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.call(self._block.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drain(self, grace: float) -> None:
        """Begins to drain, as SIGTERM does, and waits for its end."""
        assert self._server is not None
        self.call(self._server.stop(grace))

    def call(self, work):  # type: ignore[no-untyped-def]  # any coroutine, its own result
        """Runs a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)


class HeldScorer:
    """Lets each batch wait until it is released, then scores it with `inner`.

    Attributes:
        started: set when a batch has begun.
        release: set it to let batches go on.
        batches: how many segments each batch had.
    """

    def __init__(self, inner: ReplicaScorer) -> None:
        self._inner = inner
        self.started = threading.Event()
        self.release = threading.Event()
        self.batches: list[int] = []

    def forward(self, batch: PackedBatch) -> list[Outcome]:
        """See the class."""
        self.batches.append(len(batch.reads_per_segment))
        self.started.set()
        assert self.release.wait(timeout=60)
        return self._inner.forward(batch)


class FailingScorer:
    """Fails on the batches that `fails` picks."""

    def __init__(self, inner: ReplicaScorer, fails: Callable[[PackedBatch], bool]) -> None:
        self._inner = inner
        self._fails = fails

    def forward(self, batch: PackedBatch) -> list[Outcome]:
        """See the class."""
        if self._fails(batch):
            raise RuntimeError("the device is gone")
        return self._inner.forward(batch)


def with_scorer(model: Model, scorer: ReplicaScorer) -> Model:
    """The model, scored by another scorer."""
    return replace(model, scorer=scorer)
