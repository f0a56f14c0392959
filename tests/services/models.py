"""Models loaded into the test's own process: the same parts that a replica loads, at hand for looking at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from rm_grpc.types import ModelInfo, Verdict
from rm_grpc_server.config import ModelSettings, ServerSettings
from rm_grpc_server.engine.messages import Message, Work
from rm_grpc_server.engine.pipeline import Pipeline
from rm_grpc_server.engine.pool import Pool, Vigilance
from rm_grpc_server.engine.progress import Progress
from rm_grpc_server.opening import Model, ModelSource, batch_shape, model_packing
from rm_grpc_server.scoring.loading import load_replica
from rm_grpc_server.scoring.packed_scorer import PackedScorer
from rm_grpc_server.scoring.packing import Packing, ReplicaArguments
from rm_grpc_server.scoring.protocols import BatchOutcome, Outcome, ReplicaScorer, ScorerDescription
from rm_grpc_server.text.encoding import TokenArray, Tokens
from rm_grpc_server.text.pipeline import TextPipeline


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A loaded model; `scorer` is what a server of it runs, `packed` what the checkpoint gave."""

    info: ModelInfo
    text: TextPipeline
    settings: ModelSettings
    packed: PackedScorer
    scorer: ReplicaScorer

    def tokens(self, ids: TokenArray) -> Tokens:
        """Ids with the positions that the model's kind reads."""
        return Tokens(ids, self.packed.scorer.reading.positions(ids))

    def outcomes(self, rows: Sequence[TokenArray]) -> list[Outcome]:
        """What comes of conversations that are packed together."""
        return self.packed.score([self.tokens(ids) for ids in rows])

    def reference(self, ids: TokenArray) -> float:
        """The model card's number."""
        return self.packed.reference(self.tokens(ids)).raw_score

    def served(self, server: ServerSettings) -> Model:
        """The model, for a server on the running event loop, with a replica on threads of this process."""
        pool = Pool(
            [lambda: ThreadReplica(self.scorer)],
            Vigilance(hang_seconds=server.hang_seconds, probe_seconds=server.probe_seconds),
        )
        shape = batch_shape(self.settings, server, on_gpu=False)
        return Model(self.info, self.text, self.scorer.description, pool, shape, normalization=self.settings.normalize)


def load_local(settings: ModelSettings, server: ServerSettings | None = None, *, packing: Packing | None = None) -> LocalModel:
    """Loads a model as a replica would. Raises as `open_model`."""
    server = server or ServerSettings()
    source = ModelSource.open(settings)
    shape = batch_shape(source.settings, server, on_gpu=False)
    packing = packing or model_packing(source.settings, shape, on_gpu=False)
    threads = 1 if settings.deterministic else max(1, torch.get_num_threads() - 1)
    devices = (settings.devices if settings.devices != "auto" else "cpu",)
    scorer = load_replica(ReplicaArguments(source.settings, devices, threads, packing))
    info, text = source.described(scorer.description, server)
    return LocalModel(info, text, source.settings, scorer, scorer)


def with_scorer(model: LocalModel, scorer: ReplicaScorer) -> LocalModel:
    """The model, scored by another scorer."""
    return replace(model, scorer=scorer)


class ThreadReplica:
    """A replica whose pipeline runs in this process; see `Replica`."""

    def __init__(self, scorer: ReplicaScorer) -> None:
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[Message | None] = asyncio.Queue()
        self._scorer = scorer
        self.progress = Progress()
        self._pipeline = Pipeline(scorer, self._say, self.progress, lambda: self._say(None))

    def _say(self, message: Message | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._said.put_nowait, message)

    async def start(self) -> ScorerDescription:
        self._pipeline.start()
        return self._scorer.description

    def send(self, work: Work) -> None:
        self._pipeline.submit(work)

    async def listen(self, hear: Callable[[Message], None]) -> None:
        while (message := await self._said.get()) is not None:
            hear(message)

    def kill(self) -> None:
        self._pipeline.close()
        self._said.put_nowait(None)

    async def ended(self) -> None:
        pass


class WrappedScorer:
    """Runs another scorer; what tests change stands in subclasses."""

    def __init__(self, inner: ReplicaScorer) -> None:
        self.inner = inner
        self.description = inner.description

    def prepare(self, conversations: Sequence[Tokens], /) -> Any:
        return self.inner.prepare(conversations)

    def launch(self, prepared: Any, /) -> Any:
        return self.inner.launch(prepared)

    def finish(self, launched: Any, /) -> BatchOutcome:
        return self.inner.finish(launched)


class HeldScorer(WrappedScorer):
    """Lets each batch wait until it is released, then scores it.

    Attributes:
        started: set when a batch has begun.
        release: set it to let batches go on.
        batches: how many conversations each batch had.
    """

    def __init__(self, inner: ReplicaScorer) -> None:
        super().__init__(inner)
        self.started = threading.Event()
        self.release = threading.Event()
        self.batches: list[int] = []

    def prepare(self, conversations: Sequence[Tokens], /) -> Any:
        self.batches.append(len(conversations))
        self.started.set()
        assert self.release.wait(timeout=60)
        return super().prepare(conversations)


class FailingScorer(WrappedScorer):
    """Fails on the batches that `fails` picks."""

    def __init__(self, inner: ReplicaScorer, fails: Callable[[Sequence[Tokens]], bool]) -> None:
        super().__init__(inner)
        self._fails = fails

    def prepare(self, conversations: Sequence[Tokens], /) -> Any:
        if self._fails(conversations):
            raise RuntimeError("the device is gone")
        return super().prepare(conversations)


class FreeScorer:
    """Costs nothing; a conversation's score is its length."""

    def __init__(self, description: ScorerDescription) -> None:
        self.description = description

    def prepare(self, conversations: Sequence[Tokens], /) -> Sequence[TokenArray]:
        return [one.ids for one in conversations]

    def launch(self, prepared: Sequence[TokenArray], /) -> Sequence[TokenArray]:
        return prepared

    def finish(self, launched: Sequence[TokenArray], /) -> BatchOutcome:
        outcomes: list[Outcome] = [Verdict(float(len(ids))) for ids in launched]
        return BatchOutcome(outcomes, [0] * len(launched), sum(len(ids) for ids in launched))
