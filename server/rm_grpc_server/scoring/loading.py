"""Loads what a replica runs, in the replica's process."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TypeAlias

import torch

from rm_grpc_server.errors import ConfigError
from rm_grpc_server.models.backbone import Placement
from rm_grpc_server.models.checkpoint import open_checkpoint
from rm_grpc_server.scoring.implicit_scorer import ImplicitScorer
from rm_grpc_server.scoring.packed_scorer import PackedScorer
from rm_grpc_server.scoring.packing import Packing, ReplicaArguments
from rm_grpc_server.scoring.padded_scorer import PaddedScorer
from rm_grpc_server.scoring.protocols import EncoderScorer, ImplicitPair, Loaded, ReplicaScorer
from rm_grpc_server.scoring.registry import load_scorer
from rm_grpc_server.scoring.source import KindSource

TokenScorer: TypeAlias = PackedScorer | PaddedScorer | ImplicitScorer
"""What runs a kind that reads tokens; each is a `ReplicaScorer` and knows its reference."""


def load_replica(arguments: ReplicaArguments) -> ReplicaScorer:
    """Loads a model and proves that it gives its reference's numbers.

    Raises:
        StartupError: the model cannot be served rightly.
    """
    if not arguments.is_tensor_parallel:
        return load_rank(arguments)
    from rm_grpc_server.scoring.tensor_parallel import TensorParallelScorer, join_as_first

    meeting = join_as_first(arguments)
    try:
        scorer = load_rank(arguments)
        if not isinstance(scorer, PackedScorer):
            raise ConfigError("parallel: tensor goes with one decoder, not with this kind; use layers")
        return TensorParallelScorer(scorer)
    finally:
        shutil.rmtree(meeting)


def load_rank(arguments: ReplicaArguments) -> TokenScorer:
    """Loads a model, or this rank's part of it."""
    torch.set_num_threads(arguments.torch_threads)
    settings = arguments.model
    local = tuple("cpu" if name == "cpu" else f"cuda:{at}" for at, name in enumerate(arguments.devices))
    checkpoint = open_checkpoint(settings.path, settings.revision)
    placement = Placement(local, is_tensor_parallel=arguments.is_tensor_parallel)
    loaded = load_scorer(KindSource(checkpoint, settings, placement))
    scorer = scorer_of(loaded, arguments.packing)
    difference = scorer.check_against_reference()
    if isinstance(scorer, PackedScorer):
        scorer.check_bits()
    scorer.description = replace(scorer.description, device=", ".join(arguments.devices), difference=difference)
    return scorer


def scorer_of(loaded: Loaded, packing: Packing) -> TokenScorer:
    """The scorer that runs what a kind has loaded."""
    if isinstance(loaded, EncoderScorer):
        return PaddedScorer(loaded)
    if isinstance(loaded, ImplicitPair):
        return ImplicitScorer(loaded, packing)
    return PackedScorer(loaded, packing)
