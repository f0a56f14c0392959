"""An encoder that reads question and answer as a pair of texts: OpenAssistant's DeBERTa reward models, BERT cross-encoders.

The score is the classifier's raw output, whatever activation a library would apply on top (OpenAssistant's model cards).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from rm_grpc_server.config import Settings
from rm_grpc_server.models.encoder import Encoder
from rm_grpc_server.scoring.kinds.sequence_classification import WeightedSum
from rm_grpc_server.scoring.protocols import EncoderScorer
from rm_grpc_server.scoring.source import KindSource
from rm_grpc_server.text.pairs import TextPair

KIND = "cross_encoder"


class Options(Settings):
    """Settings of the kind."""

    turns: Literal["single", "last", "all"] = Field(
        "single",
        description="the question of a conversation of several turns: single refuses them, last takes the last message before "
        "the answer, all takes all, one a line",
    )
    attributes: tuple[str, ...] = Field((), description="names of the classifier's outputs, which then stand in each score")
    weights: tuple[float, ...] | None = Field(None, description="what each output counts in the score")


def _logits(output: Any, reads_R2: Tensor) -> Tensor:
    del reads_R2
    logits: Tensor = output.logits
    return logits


def load(source: KindSource) -> EncoderScorer:
    """Loads a checkpoint.

    Raises:
        ModelLoadError: the checkpoint has no such head in its files.
        ConfigError: options that the kind does not have, or as many names or weights as there are no outputs.
    """
    options = source.options(Options)
    model = source.encoder("sequence_classification")
    outputs = int(model.config.num_labels)
    return EncoderScorer(
        kind=KIND,
        encoder=Encoder(model, _logits, outputs=outputs),
        reading=TextPair(options.turns),
        judge=WeightedSum.of(options.weights, options.attributes, outputs, head="classifier"),
        settings=source.described(KIND, options),
        attribute_names=options.attributes,
    )
