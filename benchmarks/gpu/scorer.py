"""What the server runs in a replica, around a model that comes from no checkpoint."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.clock import DeviceClock
from rm_grpc.types import Verdict
from rm_grpc_server.engine.messages import Done, Failed, Message, Work
from rm_grpc_server.engine.pipeline import Pipeline
from rm_grpc_server.engine.pool import Vigilance
from rm_grpc_server.engine.progress import Progress
from rm_grpc_server.models.backbone import Backbone, PlacedBatch
from rm_grpc_server.models.prefixes import IdArray
from rm_grpc_server.models.readout import HeadReadout
from rm_grpc_server.scoring.kinds.sequence_classification import WeightedSum
from rm_grpc_server.scoring.packed_scorer import PackedScorer
from rm_grpc_server.scoring.protocols import BatchScorer
from rm_grpc_server.text.encoding import Tokens
from rm_grpc_server.text.reading import LastToken

_PROBES, _PROBE_TOKENS = 16, 128


class TimedBackbone(Backbone):
    """A backbone that tells when the device computes."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.clock = DeviceClock(self.device)

    def hidden_rows(self, placed: PlacedBatch) -> Tensor:
        """See `Backbone`."""
        with self.clock.span():
            return super().hidden_rows(placed)


def head_scorer(model: Any) -> BatchScorer:
    """The head's one output at the last token, as `sequence_classification` reads it; random text's scores spread by 1."""
    backbone = TimedBackbone(model.base_model)
    weight_VH = model.score.weight.detach().float()

    def head(rows_RH: Tensor) -> Tensor:
        return torch.nn.functional.linear(rows_RH.float(), weight_VH)

    scorer = BatchScorer("sequence_classification", HeadReadout(backbone, head, 1), LastToken(), WeightedSum((1.0,)), {})
    draw = np.random.default_rng(0)
    ids = draw.integers(0, backbone.vocabulary_size, (_PROBES, _PROBE_TOKENS), dtype=np.int32)
    weight_VH /= float(np.std(scores_of(PackedScorer(scorer).score([Tokens.read_at_end(row) for row in ids]))))
    return scorer


@dataclass(frozen=True, slots=True)
class Piped:
    """Batches that went through the stages of a replica: seconds, the device's idle share, and scores in order."""

    seconds: float
    idle: float
    scores: list[float]


class BatchFailedError(Exception):
    """A batch was not scored."""


def piped(scorer: PackedScorer, batches: Sequence[Sequence[IdArray]]) -> Piped:
    """Scores batches with as many in the stages at a time as the server sends ahead.

    Raises:
        BatchFailedError: one was not scored.
    """
    told: queue.SimpleQueue[Message] = queue.SimpleQueue()
    pipeline = Pipeline(scorer, told.put, Progress(), lambda: told.put(Failed(-1, "the scorer fails on everything")))
    pipeline.start()
    scores: list[float] = []

    def settle() -> None:
        message = told.get()
        if not isinstance(message, Done):
            raise BatchFailedError(str(message))
        scores.extend(scores_of(message.result.outcomes))

    backbone = scorer.scorer.backbone
    assert isinstance(backbone, TimedBackbone)
    backbone.clock.take()
    ahead = Vigilance().ahead
    started = time.perf_counter()
    try:
        for number, batch in enumerate(batches):
            if number >= ahead:
                settle()
            pipeline.submit(Work(number, [Tokens.read_at_end(ids) for ids in batch]))
        for _ in range(min(ahead, len(batches))):
            settle()
        seconds = time.perf_counter() - started
    finally:
        pipeline.close()
    return Piped(seconds, backbone.clock.idle_share(), scores)


def scores_of(outcomes: Sequence[object]) -> list[float]:
    """Raw scores.

    Raises:
        BatchFailedError: one is an error.
    """
    scores = []
    for outcome in outcomes:
        if not isinstance(outcome, Verdict):
            raise BatchFailedError(repr(outcome))
        scores.append(outcome.raw_score)
    return scores
