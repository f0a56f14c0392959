"""What a scorer is, in values that need no torch to be talked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from rm_grpc.errors import RewardError
from rm_grpc.types import StepScore
from rm_grpc_server.scoring.positions import ReadPositions
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


@dataclass(frozen=True, slots=True)
class ScorerDescription:
    """What a loaded scorer is.

    Attributes:
        settings: what was asked of the kind, for the model's digest and description.
        vocabulary_size: rows of the model's embedding.
        notes: what a user should know of the checkpoint.
        difference: largest difference of a packed score from the reference's, as the check at load found it.
    """

    kind: str
    positions: ReadPositions
    dtype: str
    device: str
    vocabulary_size: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    attribute_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    difference: float = 0.0


class BatchScorer(Protocol):
    """A kind that reads hidden states of a packed batch. The engine packs; the scorer says what it reads and what it means."""

    kind: str
    backbone: Backbone
    attribute_names: tuple[str, ...]
    settings: Mapping[str, Any]
    """What was asked of the kind, for the model's digest and description."""
    positions: ReadPositions

    def head(self, rows_RH: Tensor, /) -> Tensor:
        """What the rows give, [rows, values] float32, on their device. One row's values do not depend on the others."""

    def verdicts(self, values_RV: Tensor, rows_per_conversation: Sequence[int], /) -> list[Verdict]:
        """What the values mean, one verdict a conversation; on the host."""

    def reference(self, ids: TokenArray) -> float:
        """The raw score as the model card gets it: the whole Transformers model on one conversation, unpacked."""


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What came of a batch: one outcome a conversation, in order, and how many of its tokens were computed for others too.

    Attributes:
        computed_tokens: tokens of the packed row.
    """

    outcomes: Sequence[Outcome]
    shared_tokens: Sequence[int]
    computed_tokens: int = 0


class ReplicaScorer(Protocol):
    """What a replica runs: three stages, each on a thread of its own, so that batches overlap."""

    description: ScorerDescription

    def prepare(self, conversations: Sequence[TokenArray], /) -> Any:
        """Packs a batch and begins its copy to the device."""

    def launch(self, prepared: Any, /) -> Any:
        """The forward pass."""

    def finish(self, launched: Any, /) -> BatchOutcome:
        """Waits for the result and reads it."""
