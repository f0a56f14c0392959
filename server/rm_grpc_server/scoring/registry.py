"""The kinds of scorers, by name, each imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from rm_grpc_server.config import ModelSettings
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.models.checkpoint import Checkpoint
from rm_grpc_server.scoring.protocols import BatchScorer

if TYPE_CHECKING:
    from rm_grpc_server.models.backbone import Placement

FACTORIES = {
    "sequence_classification": "rm_grpc_server.scoring.sequence_classification:SequenceClassification",
    "token_logit": "rm_grpc_server.scoring.token_logit:TokenLogit",
}


def load_scorer(checkpoint: Checkpoint, settings: ModelSettings, placement: Placement) -> BatchScorer:
    """Loads a checkpoint as the kind that its settings name, or that its architecture implies.

    Raises:
        ConfigError: no such kind, or none can be implied.
        ModelLoadError: the checkpoint cannot be served as that kind.
    """
    kind = settings.scorer.kind or implied_kind(checkpoint)
    if kind not in FACTORIES:
        raise ConfigError(f"scorer.kind: there is no kind {kind!r}; there are {', '.join(sorted(FACTORIES))}")
    module, _, name = FACTORIES[kind].partition(":")
    factory = getattr(import_module(module), name)
    return cast("BatchScorer", factory.load(checkpoint, settings.scorer.options, dtype=settings.dtype, placement=placement))


def implied_kind(checkpoint: Checkpoint) -> str:
    """The kind that an architecture implies.

    Raises:
        ConfigError: it implies none.
    """
    if checkpoint.architecture.endswith("ForSequenceClassification"):
        return "sequence_classification"
    raise ConfigError(
        f"scorer.kind: {checkpoint.source} is a {checkpoint.architecture or 'model without architectures in its config'}, "
        f"which does not say how it scores; set one of {', '.join(sorted(FACTORIES))}, or a preset"
    )
