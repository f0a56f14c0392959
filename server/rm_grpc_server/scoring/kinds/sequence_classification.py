"""A head at one position: Bradley-Terry models with one output, and models of several attributes with a weight for each.

The score is the head's raw output at the last token of the conversation (Skywork-Reward-Llama-3.1-8B model card), or the
weighted sum of its outputs (HelpSteer2 and Nemotron-4-340B-Reward model cards). The head may be a linear layer or a
perceptron, in any file and under any name (INF-ORM: `score.0`, `score.2`; GRM: `v_head.summary`; UltraRM and Eurus:
`regression_head`; Beaver: `score_head`). The cards' library finds the position by looking for padding tokens from the right;
here it follows from the length, so that a conversation whose last token happens to be the padding token is read where it
ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from rm_grpc.types import Verdict
from rm_grpc_server.config import Settings
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.scoring.protocols import BatchScorer
from rm_grpc_server.scoring.source import KindSource
from rm_grpc_server.text.reading import LastToken

KIND = "sequence_classification"


class Options(Settings):
    """Settings of the kind."""

    pooling: Literal["last_token", "last_non_pad"] = Field(
        "last_token",
        description="the position that is read; last_non_pad skips trailing padding tokens of the conversation itself, as "
        "Transformers does when the padding token is also the end of a turn",
    )
    head: str | None = Field(
        None, description="where the head's tensors are in the checkpoint, such as v_head; by default found"
    )
    attributes: tuple[str, ...] = Field((), description="names of the head's outputs, which then stand in each score")
    weights: tuple[float, ...] | None = Field(
        None, description="what each output counts in the score; a head with several outputs needs them"
    )

    @model_validator(mode="after")
    def _one_weight_each(self) -> Options:
        if self.attributes and self.weights and len(self.attributes) != len(self.weights):
            raise ValueError(f"weights: {len(self.weights)} weights for {len(self.attributes)} attributes")
        return self


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """The judge of one row: the outputs by name, and their weighted sum; see `Judge`."""

    weights: tuple[float, ...]
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, weights: tuple[float, ...] | None, names: tuple[str, ...], outputs: int, *, head: str) -> WeightedSum:
        """The judge of a head with so many outputs.

        Args:
            head: what to call it in a message.

        Raises:
            ConfigError: as many names or weights as it has no outputs, or no weights for several.
        """
        for key, given in (("attributes", names), ("weights", weights)):
            if given and len(given) != outputs:
                raise ConfigError(f"scorer.{key}: {len(given)} for the {outputs} outputs of the {head}")
        if outputs > 1 and weights is None:
            raise ConfigError(
                f"scorer.weights: the {head} has {outputs} outputs; say what each counts in the score (1 and 0s to pick one)"
            )
        return cls(weights or (1.0,), names)

    def __call__(self, values: Sequence[Sequence[float]], /) -> Verdict:
        """One row a conversation."""
        (row,) = values
        score = sum(weight * value for weight, value in zip(self.weights, row, strict=True))
        return Verdict(score, dict(zip(self.names, row, strict=True)) if self.names else {})


def load(source: KindSource) -> BatchScorer:
    """Loads a checkpoint.

    Raises:
        ModelLoadError: the checkpoint has no such head in its files.
        ConfigError: options that the kind does not have, or as many names or weights as the head has no outputs.
    """
    options = source.options(Options)
    readout = source.head_readout(options.head)
    pad_id: int | None = readout.backbone.model.config.get_text_config().pad_token_id
    return BatchScorer(
        kind=KIND,
        readout=readout,
        reading=LastToken(pad_id if options.pooling == "last_non_pad" else None),
        judge=WeightedSum.of(options.weights, options.attributes, readout.outputs, head="head"),
        settings=source.described(KIND, options),
        attribute_names=options.attributes,
    )
