"""Many objectives, weighted by a gate that reads the prompt: ArmoRM-Llama3-8B-v0.1 and QRM-Llama3.1-8B.

The objectives are read at the last token, the gate where the last occurrence of a pattern of tokens begins, which ends the
prompt (modeling_custom.py of ArmoRM).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from rm_grpc.types import Verdict
from rm_grpc_server.config import Settings
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.models.gating import GatedObjectives
from rm_grpc_server.models.readout import HeadReadout
from rm_grpc_server.scoring.protocols import BatchScorer
from rm_grpc_server.scoring.source import KindSource
from rm_grpc_server.text.reading import GateReading

KIND = "gated_multi"


class Options(Settings):
    """Settings of the kind."""

    gate_pattern: tuple[int, ...] = Field(
        min_length=1, description="token ids at whose last occurrence the gate is read: the end of the prompt"
    )
    attributes: tuple[str, ...] = Field((), description="names of the objectives, which then stand in each score")
    attributes_are: Literal["raw", "transformed"] = Field(
        "raw", description="the objectives as they are read, or after the transform that makes them independent of length"
    )


@dataclass(frozen=True, slots=True)
class GateJudge:
    """The judge; see `Judge`."""

    objectives: int
    names: tuple[str, ...]
    are_transformed: bool

    def __call__(self, values: Sequence[Sequence[float]], /) -> Verdict:
        """The gate's row, then the last token's."""
        gate, last = values
        count = self.objectives
        transformed, weights = last[count : 2 * count], gate[2 * count :]
        score = sum(weight * value for weight, value in zip(weights, transformed, strict=True))
        told = transformed if self.are_transformed else last[:count]
        return Verdict(score, dict(zip(self.names, told, strict=True)) if self.names else {})


def load(source: KindSource) -> BatchScorer:
    """Loads a checkpoint.

    Raises:
        ModelLoadError: the checkpoint has no such head in its files.
        ConfigError: options that the kind does not have, or deterministic mode.
    """
    options = source.options(Options)
    if source.settings.deterministic:
        raise ConfigError("deterministic: goes without gated_multi, for its fixed shapes have room for one read a conversation")
    config = source.checkpoint.config
    backbone = source.backbone("none")
    head = GatedObjectives(
        source.files,
        source.checkpoint.source,
        quantiles=int(config.get("num_quantiles") or 1),
        temperature=float(config.get("gating_temperature") or 1.0),
        device=backbone.last_device,
    )
    if options.attributes and len(options.attributes) != head.objectives:
        raise ConfigError(f"scorer.attributes: {len(options.attributes)} for {head.objectives} objectives")
    return BatchScorer(
        kind=KIND,
        readout=HeadReadout(backbone, head, 3 * head.objectives),
        reading=GateReading(options.gate_pattern),
        judge=GateJudge(head.objectives, options.attributes, options.attributes_are == "transformed"),
        settings=source.described(KIND, options),
        attribute_names=options.attributes,
    )
