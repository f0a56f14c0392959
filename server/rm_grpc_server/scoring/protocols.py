"""What a scorer is, in values that need no torch to be talked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from rm_grpc.errors import RewardError
from rm_grpc.types import StepScore
from rm_grpc_server.models.packed import PackedBatch
from rm_grpc_server.text.encoding import TokenArray

if TYPE_CHECKING:
    from torch import Tensor

    from rm_grpc_server.models.backbone import Backbone


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a model says of one conversation: the raw score before any activation, and what else its kind gives."""

    raw_score: float
    attributes: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[StepScore, ...] = ()


Outcome: TypeAlias = Verdict | RewardError


class BatchScorer(Protocol):
    """A kind that reads hidden states of a packed batch. The engine packs; the scorer says what it reads and what it means."""

    kind: str
    backbone: Backbone
    attribute_names: tuple[str, ...]
    settings: Mapping[str, Any]
    """What was asked of the kind, for the model's digest and description."""

    def reads(self, ids: TokenArray) -> tuple[int, ...]:
        """Positions within a conversation whose hidden states are read."""

    def verdicts(self, rows_RH: Tensor, rows_per_conversation: Sequence[int], /) -> list[Verdict]:
        """What the rows mean, one verdict a conversation. Computed in float32."""

    def reference(self, ids: TokenArray) -> float:
        """The raw score as the model card gets it: the whole Transformers model on one conversation, unpacked."""


class ReplicaScorer(Protocol):
    """What a replica runs: batches in, outcomes out, one each and in order."""

    def forward(self, batch: PackedBatch) -> list[Outcome]:
        """Scores a batch. Blocking; called from one thread."""
