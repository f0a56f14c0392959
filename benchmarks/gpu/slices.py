"""The slices that are measured of one model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.comparison import largest_difference
from benchmarks.gpu.clock import matmul_rate
from benchmarks.gpu.scorer import piped
from benchmarks.gpu.shapes import Shape
from benchmarks.gpu.work import batches, full_tokens, groups, rollouts, unique_tokens
from rm_grpc_server.models.packed import pack
from rm_grpc_server.models.prefixes import IdArray
from rm_grpc_server.scoring.packed_scorer import PackedScorer
from rm_grpc_server.scoring.packing import Packing
from rm_grpc_server.scoring.protocols import BatchScorer
from rm_grpc_server.text.encoding import Tokens

_CHECKED = 8
"""Conversations of a slice that are compared with the model on each by itself."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """One slice of W1.

    Attributes:
        flops, computed_flops: operations of the whole model, and of what is computed of it.
        matmul: operations per second of a large matrix product just before.
        seconds: of the forwards one after another, packing and copies included.
        piped_seconds: through the three stages of a replica.
        idle: share of that time in which the device had no forward under way.
        difference: the largest of a few scores from those of each conversation by itself.
    """

    tokens: int
    flops: float
    computed_flops: float
    matmul: float
    seconds: float
    piped_seconds: float
    idle: float
    difference: float


@dataclass(frozen=True, slots=True)
class Groups:
    """One slice of W2 with sharing off and on; the difference is the largest between their scores."""

    tokens: int
    ideal: float
    off_seconds: float
    on_seconds: float
    difference: float


class Slices:
    """Measures one model."""

    def __init__(self, shape: Shape, scorer: BatchScorer, *, quick: bool) -> None:
        self._shape = shape
        self._scorer = scorer
        self._off = PackedScorer(scorer, Packing(share=False))
        self._on = PackedScorer(scorer, Packing(share=True))
        self._count = max(2, shape.batches // 8) if quick else shape.batches
        self._groups = max(3, shape.groups // 8) if quick else shape.groups
        self._dtype = scorer.backbone.dtype

    def rollouts(self, repeat: int) -> Rollouts:
        """A slice of W1."""
        shape, backbone = self._shape, self._scorer.backbone
        work = rollouts(self._count * shape.budget, shape.vocabulary, repeat)
        in_batches = batches(work, shape.budget)
        rate = matmul_rate(backbone.device, backbone.model.dtype)
        seconds = self._one_after_another(in_batches)
        through = piped(self._on, in_batches)
        reference = [self._off.reference(Tokens.read_at_end(one.ids)).raw_score for one in work[:_CHECKED]]
        lengths = [len(one.ids) for one in work]
        return Rollouts(
            full_tokens(work),
            shape.flops(lengths),
            shape.computed_flops(lengths),
            rate,
            seconds,
            through.seconds,
            through.idle,
            largest_difference(through.scores[: len(reference)], reference, dtype=self._dtype, of="the packed forward"),
        )

    def groups(self, repeat: int) -> Groups:
        """A slice of W2; off and on begin in turn."""
        shape = self._shape
        work = groups(self._groups, shape.vocabulary, repeat)
        found = {}
        for share in (False, True) if repeat % 2 else (True, False):
            found[share] = piped(self._on if share else self._off, batches(work, shape.budget, share=share))
        off, on = found[False], found[True]
        difference = largest_difference(on.scores, off.scores, dtype=self._dtype, of="prefix sharing")
        full = full_tokens(work)
        return Groups(full, full / unique_tokens(work), off.seconds, on.seconds, difference)

    def _one_after_another(self, in_batches: Sequence[Sequence[IdArray]]) -> float:
        backbone = self._scorer.backbone
        _synchronize(backbone.device)
        started = time.perf_counter()
        for batch in in_batches:
            packed = pack(batch, [(len(ids) - 1,) for ids in batch])
            self._scorer.readout(backbone.hidden_rows(backbone.place(packed)))
        _synchronize(backbone.device)
        return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
