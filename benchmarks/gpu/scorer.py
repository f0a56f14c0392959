"""What the server runs in a replica, around a model that comes from no checkpoint."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.clock import DeviceClock
from rm_grpc_server.engine.messages import Done, Failed, Message, Started, Work
from rm_grpc_server.engine.pipeline import Pipeline
from rm_grpc_server.engine.pool import Vigilance
from rm_grpc_server.models.backbone import Backbone, PlacedBatch
from rm_grpc_server.models.packed import IdArray
from rm_grpc_server.scoring.packed_scorer import PackedScorer
from rm_grpc_server.scoring.positions import LastToken, ReadPositions
from rm_grpc_server.scoring.protocols import Verdict

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


class HeadScorer:
    """The head's one output at the last token, as `sequence_classification` reads it; see `BatchScorer`."""

    kind = "sequence_classification"
    attribute_names: tuple[str, ...] = ()
    settings: Mapping[str, Any] = {}

    def __init__(self, model: Any) -> None:
        self.backbone: Backbone = TimedBackbone(model)
        self.positions: ReadPositions = LastToken()
        self._weight_VH = model.score.weight.detach().float()
        spread = float(np.std(self._probe_scores()))
        self._weight_VH /= spread

    def head(self, rows_RH: Tensor, /) -> Tensor:
        """[rows, 1] float32."""
        return torch.nn.functional.linear(rows_RH.float(), self._weight_VH)

    def verdicts(self, values_RV: Tensor, _rows_per_conversation: Sequence[int], /) -> list[Verdict]:
        """One row a conversation."""
        return [Verdict(score) for score in values_RV[:, 0].tolist()]

    def reference(self, ids: IdArray) -> float:
        """The whole model under Transformers' eager attention on one conversation, unpacked."""
        with self.backbone.plain_attention() as model:
            ids_BT = torch.from_numpy(ids[None].astype("int64")).to(self.backbone.device)
            hidden: Tensor = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
            return float(self.head(hidden[0, -1:])[0, 0])

    def _probe_scores(self) -> list[float]:
        """Scores of random text, which are to spread by 1."""
        draw = np.random.default_rng(0)
        ids = draw.integers(0, self.backbone.vocabulary_size, (_PROBES, _PROBE_TOKENS), dtype=np.int32)
        return scores_of(PackedScorer(self).score(list(ids)))


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
    pipeline = Pipeline(scorer, told.put, lambda: told.put(Failed(-1, "the scorer fails on everything")))
    pipeline.start()
    scores: list[float] = []

    def settle() -> None:
        while isinstance(message := told.get(), Started):
            pass
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
            pipeline.submit(Work(number, batch))
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
