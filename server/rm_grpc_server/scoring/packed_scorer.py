"""Runs a scorer over packed batches, and proves at load that it gives the reference's numbers."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
import torch

from rm_grpc.errors import ScoreNotFiniteError
from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.models.packed import PackedBatch, pack
from rm_grpc_server.scoring.protocols import BatchScorer, Outcome
from rm_grpc_server.text.encoding import TokenArray

_CORES = torch.get_num_threads()
"""What torch would take: the cores that this process may use, or OMP_NUM_THREADS."""
_PROBE_LENGTHS = (7, 19, 3, 12)
_TOLERANCE = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}


class PackedScorer:
    """A scorer as a replica runs it."""

    def __init__(self, scorer: BatchScorer, *, torch_threads: int = 0) -> None:
        self.scorer = scorer
        if scorer.backbone.device.type == "cpu":
            # Two threads of one forward wait for each other at every operation; where text, transport or a client take a core
            # meanwhile, one thread fewer is faster.
            torch.set_num_threads(torch_threads or max(1, _CORES - 1))

    def forward(self, batch: PackedBatch) -> list[Outcome]:
        """One outcome a segment; a score that is not finite is that segment's error."""
        with torch.inference_mode():
            rows = self.scorer.backbone.hidden_rows(batch)
            verdicts = self.scorer.verdicts(rows, batch.reads_per_segment)
        return [
            verdict
            if math.isfinite(verdict.raw_score)
            else ScoreNotFiniteError(f"the model gave {verdict.raw_score}; its weights or this input overflow {self._dtype}")
            for verdict in verdicts
        ]

    @property
    def _dtype(self) -> str:
        return self.scorer.backbone.dtype

    def check_against_reference(self) -> float:
        """Scores a few random conversations packed together and through the whole Transformers model one at a time.

        Returns:
            The largest difference, relative to the spread of hidden states where that is above 1.

        Raises:
            ModelLoadError: the numbers differ by more than rounding: this architecture is not computed rightly when packed.
        """
        probes = _probes(self.scorer.backbone.vocabulary_size, self.scorer.backbone.model.config)
        packed = self.forward(pack(probes, [self.scorer.reads(ids) for ids in probes]))
        worst = 0.0
        for ids, outcome in zip(probes, packed, strict=True):
            expected = self.scorer.reference(ids)
            if isinstance(outcome, ScoreNotFiniteError) or not math.isfinite(expected):
                raise ModelLoadError(f"scores of a random probe are not finite in {self._dtype}; try another dtype")
            assert not isinstance(outcome, Exception)
            worst = max(worst, abs(outcome.raw_score - expected) / max(1.0, abs(expected)))
        if worst > _TOLERANCE[self._dtype]:
            raise ModelLoadError(
                f"packed scores differ from Transformers' own by {worst:.2g} in {self._dtype}: this architecture "
                f"({type(self.scorer.backbone.model).__name__}) is not computed rightly when packed, and is not served"
            )
        return worst


def _probes(vocabulary_size: int, config: object) -> list[TokenArray]:
    """Random ids below the special ones, never the padding token."""
    generator = np.random.default_rng(0)
    pad_id = getattr(config, "pad_token_id", None)
    flat = generator.integers(0, vocabulary_size, sum(_PROBE_LENGTHS), dtype=np.int32)
    flat[flat == pad_id] = (int(pad_id) + 1) % vocabulary_size if pad_id is not None else 0
    return [array.copy() for array in np.split(flat, list(accumulate(_PROBE_LENGTHS))[:-1])]
