"""Next-token logits at the last position: Llama-3.1-Nemotron-70B-Reward and its yes-or-no relatives.

The model card generates one token and reads the raw logit of vocabulary id 0. Here the same number is one row of the
language-model head times one hidden state; the other rows are never computed. Llama-3.3-Nemotron-70B-Reward-Principle asks
whether the response satisfies a principle, and reads the logit of Yes minus that of No (model card).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from rm_grpc.types import Verdict
from rm_grpc_server.config import Settings
from rm_grpc_server.scoring.arithmetic import softmax
from rm_grpc_server.scoring.protocols import BatchScorer
from rm_grpc_server.scoring.source import KindSource
from rm_grpc_server.text.encoding import Reading
from rm_grpc_server.text.reading import LastToken
from rm_grpc_server.text.rewriting import AppendedQuestion

KIND = "token_logit"


class Options(Settings):
    """Settings of the kind."""

    token_ids: tuple[int, ...] = Field((), description="vocabulary ids whose logits are read")
    tokens: tuple[str, ...] = Field((), description="the same as text; each must be one token")
    weights: tuple[float, ...] | None = Field(None, description="what each counts in the score; by default 1")
    normalize: Literal["none", "pair_softmax", "full_softmax"] = Field(
        "none",
        description="what is weighted: raw logits, or probabilities among the tokens named here, or among the whole vocabulary",
    )
    question: str | None = Field(
        None,
        description="a further user message, put behind the response: it asks about it and is answered by the tokens. "
        "{name} stands for metadata of the item, such as {principle}",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        if bool(self.token_ids) == bool(self.tokens):
            raise ValueError("token_ids: give either token_ids or tokens")
        count = len(self.token_ids or self.tokens)
        if self.weights is not None and len(self.weights) != count:
            raise ValueError(f"weights: {len(self.weights)} weights for {count} token_ids")
        if count == 1 and self.normalize == "pair_softmax":
            raise ValueError("normalize: pair_softmax among one token is always 1; name two, or take full_softmax")
        return self


@dataclass(frozen=True, slots=True)
class WeightedLogits:
    """The judge; see `Judge`."""

    weights: tuple[float, ...]
    normalize: str

    def __call__(self, values: Sequence[Sequence[float]], /) -> Verdict:
        """One row a conversation: logits, or log-probabilities where the whole vocabulary counts."""
        (row,) = values
        numbers = row if self.normalize == "none" else softmax(row, whole=self.normalize == "full_softmax")
        return Verdict(sum(weight * value for weight, value in zip(self.weights, numbers, strict=True)))


def load(source: KindSource) -> BatchScorer:
    """Loads a checkpoint.

    Raises:
        ModelLoadError: the checkpoint has no language-model head in its file.
        ConfigError: options that the kind does not have, or ids outside the vocabulary.
    """
    options = source.options(Options)
    ids = source.token_ids(options.token_ids, options.tokens)
    reading: Reading = AppendedQuestion(options.question) if options.question else LastToken()
    return BatchScorer(
        kind=KIND,
        readout=source.logit_readout(ids, among_all=options.normalize == "full_softmax"),
        reading=reading,
        judge=WeightedLogits(options.weights or (1.0,) * len(ids), options.normalize),
        settings=source.described(KIND, options),
    )
