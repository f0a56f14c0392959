"""The naive path: the whole Transformers model, one conversation in a forward pass, nothing packed, padded or shared.

Decoders run under eager attention. An encoder's forward pass is Transformers' own in the service too; here it reads one
conversation without padding.
"""

from __future__ import annotations

import math

from rm_grpc.errors import RewardError, ScoreNotFiniteError
from rm_grpc.types import Verdict
from rm_grpc_server.config import ModelSettings
from rm_grpc_server.models.backbone import Placement
from rm_grpc_server.models.checkpoint import Checkpoint
from rm_grpc_server.scoring.loading import TokenScorer, scorer_of
from rm_grpc_server.scoring.packing import Packing
from rm_grpc_server.scoring.protocols import ScorerDescription
from rm_grpc_server.scoring.registry import load_scorer
from rm_grpc_server.scoring.source import KindSource
from rm_grpc_server.text.encoding import Tokens


class NaiveScorer:
    """A loaded model that is only ever asked for its reference.

    Attributes:
        description: what it is, as a replica of the same checkpoint would say.
    """

    def __init__(self, scorer: TokenScorer) -> None:
        self.description: ScorerDescription = scorer.description
        self._scorer = scorer

    def verdict(self, tokens: Tokens) -> Verdict | RewardError:
        """One conversation's verdict; a score that is not finite is its error, as in the service."""
        verdict = self._scorer.reference(tokens)
        numbers = (verdict.raw_score, *verdict.attributes.values(), *(step.score for step in verdict.steps))
        wrong = next((number for number in numbers if not math.isfinite(number)), None)
        return verdict if wrong is None else ScoreNotFiniteError(f"the model gave {wrong}")


def load_naive(
    checkpoint: Checkpoint, settings: ModelSettings, devices: tuple[str, ...], *, in_double: bool = False
) -> NaiveScorer:
    """Loads a checkpoint for the naive path.

    Args:
        devices: cpu, or GPUs as this process sees them; several have whole layers each.
        in_double: in double precision, whatever the settings say; what Transformers takes to float32 by itself (norms, the
            softmax, a head) stays there.

    Raises:
        StartupError: the checkpoint cannot be loaded as its settings say.
    """
    if in_double:
        settings = settings.model_copy(update={"dtype": "float64"})
    return NaiveScorer(scorer_of(load_scorer(KindSource(checkpoint, settings, Placement(devices))), Packing()))
