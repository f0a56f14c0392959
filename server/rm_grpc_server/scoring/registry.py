"""The kinds of scorers, by name, each imported only when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from rm_grpc.scorer import ENTRY_POINTS
from rm_grpc_server.config import ModelSettings
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.models.checkpoint import Checkpoint
from rm_grpc_server.models.head_names import GATED, find_heads
from rm_grpc_server.scoring.packing import ReplicaArguments, RequestLoad
from rm_grpc_server.scoring.protocols import Loaded, RequestScorer
from rm_grpc_server.text.pairs import PREFIX_IDS

if TYPE_CHECKING:
    from rm_grpc_server.scoring.source import KindSource

KINDS = "rm_grpc_server.scoring.kinds"
FACTORIES = {
    "sequence_classification": f"{KINDS}.sequence_classification",
    "token_logit": f"{KINDS}.token_logit",
    "process_reward": f"{KINDS}.process_reward",
    "gated_multi": f"{KINDS}.gated_multi",
    "label_distribution": f"{KINDS}.label_distribution",
    "cross_encoder": f"{KINDS}.cross_encoder",
    "pairwise": f"{KINDS}.pairwise",
    "implicit": f"{KINDS}.implicit",
}
"""Modules of kinds that read a packed batch; each has a `load`."""
REQUEST_FACTORIES = {
    "external": f"{KINDS}.external:External",
    "judge": f"{KINDS}.judge:Judge",
}
"""Kinds that take whole items, and need no checkpoint."""
ENSEMBLE = "ensemble"
"""The kind that asks other models."""
_STEPS = re.compile(r"prm|process|step", re.IGNORECASE)


def load_scorer(source: KindSource) -> Loaded:
    """Loads a checkpoint as the kind that its settings name, or that its architecture implies.

    Raises:
        ConfigError: no such kind, or none can be implied.
        ModelLoadError: the checkpoint cannot be served as that kind.
    """
    kind = source.settings.scorer.kind or implied_kind(source.checkpoint, source.files.names)
    if kind not in FACTORIES:
        raise ConfigError(f"scorer.kind: there is no kind {kind!r}; there are {', '.join(all_kinds())}")
    return cast("Loaded", import_module(FACTORIES[kind]).load(source))


def load_requests(arguments: ReplicaArguments) -> RequestScorer:
    """Makes a scorer of whole items ready, in its replica's process, which needs no torch for it.

    Raises:
        StartupError: it cannot be made ready.
    """
    module, _, name = _request_factory(arguments.model).partition(":")
    factory = getattr(import_module(module), name)
    return cast("RequestScorer", factory.load(arguments.model, device=", ".join(arguments.devices)))


def takes_requests(settings: ModelSettings) -> bool:
    """Whether a model's kind takes whole items: one of `REQUEST_FACTORIES`, or an entry point of an installed package."""
    kind = settings.scorer.kind
    return kind in REQUEST_FACTORIES or (kind is not None and kind not in {*FACTORIES, ENSEMBLE} and kind in _offered())


def request_load(settings: ModelSettings) -> RequestLoad:
    """How much a scorer of whole items takes at a time, from its settings.

    Raises:
        ConfigError: options that the kind does not have.
    """
    module = import_module(_request_factory(settings).partition(":")[0])
    return cast("RequestLoad", module.Options.of(settings).load)


def _request_factory(settings: ModelSettings) -> str:
    return REQUEST_FACTORIES.get(settings.scorer.kind or "", REQUEST_FACTORIES["external"])


def _offered() -> set[str]:
    return {entry.name for entry in entry_points(group=ENTRY_POINTS)}


def all_kinds() -> list[str]:
    """The names of all kinds that there are here."""
    return sorted({*FACTORIES, *REQUEST_FACTORIES, ENSEMBLE, *_offered()})


def implied_kind(checkpoint: Checkpoint, tensors: Sequence[str] = ()) -> str:
    """The kind that a checkpoint's architecture implies, or the tensors in its files where nothing else reads those so.

    Args:
        tensors: names of all tensors.

    Raises:
        ConfigError: they imply none; `rm-grpc inspect` tells what they may be.
    """
    if checkpoint.config.keys() >= set(PREFIX_IDS):
        return "pairwise"
    if set(tensors) >= set(GATED):
        return "gated_multi"
    if checkpoint.architecture.endswith("ForSequenceClassification"):
        return "cross_encoder" if checkpoint.is_encoder else "sequence_classification"
    # A class that is named for a reward, and no other head than one that is known: UltraRM, Eurus, Qwen2.5-Math-RM.
    if "Reward" in checkpoint.architecture and not _STEPS.search(checkpoint.architecture) and len(find_heads(tensors)) == 1:
        return "sequence_classification"
    raise ConfigError(
        f"scorer.kind: {checkpoint.source} is a {checkpoint.architecture or 'model without architectures in its config'}, "
        f"which does not say how it scores; set one of {', '.join(sorted(FACTORIES))}, or a preset. "
        "rm-grpc inspect tells what it may be"
    )
