"""A score for each step of a response: process reward models, from a head or from rows of the language-model head.

Where a step ends among the tokens is the business of `text.steps`; here the numbers read there become step scores and one
score. Qwen2.5-Math-PRM: softmax over two outputs at `<extra_0>`, the second counts. Skywork-o1-Open-PRM: sigmoid of one
output at the newline. Math-Shepherd and RLHFlow's PRMs: softmax over the logits of two tokens. ReasonEval: softmax over three
classes, of which two count (all: model cards).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from rm_grpc.types import StepScore, Verdict
from rm_grpc_server.config import Settings
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.scoring.arithmetic import sigmoid, softmax
from rm_grpc_server.scoring.protocols import BatchScorer
from rm_grpc_server.text.steps import Layout, StepReading
from rm_grpc_server.text.tokenizer import TokenizerFiles

if TYPE_CHECKING:
    from rm_grpc_server.models.readout import Readout
    from rm_grpc_server.scoring.source import KindSource

KIND = "process_reward"
Aggregate = Literal["min", "max", "mean", "prod", "last"]
AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "max": max,
    "mean": statistics.fmean,
    "prod": math.prod,
    "last": lambda scores: scores[-1],
}


class NamedAggregate(Settings):
    """A further number made of the same reads."""

    outputs: tuple[float, ...] = Field(description="what each output counts")
    aggregate: Aggregate = Field("min", description="how the steps' numbers become one")


class Options(Settings):
    """Settings of the kind."""

    source: Literal["head", "lm_head"] = Field("head", description="what is read: a head beside the body, or logits of tokens")
    head: str | None = Field(None, description="where the head's tensors are in the checkpoint; by default found")
    token_ids: tuple[int, ...] = Field((), description="for lm_head: vocabulary ids whose logits are read")
    tokens: tuple[str, ...] = Field((), description="the same as text; each must be one token")
    activation: Literal["none", "sigmoid", "softmax"] = Field("softmax", description="applied to the outputs of each step")
    outputs: tuple[float, ...] = Field(description="what each output counts in a step's score, such as [0, 1]")
    aggregate: Aggregate = Field("min", description="how step scores become the score")
    attributes: dict[str, NamedAggregate] = Field(default_factory=dict, description="further numbers, by name")
    layout: Layout = Field(
        "joined",
        description="how steps are written: joined in the response with the mark behind each, apart (each encoded by itself), "
        "or turns (each a message of the user, answered by the mark)",
    )
    mark: str = Field("", description="text behind each step, such as <extra_0>; nothing only where steps are apart")
    mark_id: int | None = Field(None, ge=0, description="the mark's one token; by default what the mark is encoded to")
    between: str = Field("", description="text between the steps of a joined response")
    separator: str = Field("\n\n", min_length=1, description="what splits a response that comes in one piece")
    empty_steps: Literal["error", "drop", "keep"] = Field("error", description="what becomes of steps that say nothing")
    strip_steps: bool = Field(False, description="drop white space around steps")
    offset: int = Field(
        0, le=0, description="where it is read, counted from the mark, or from the step's end where there is none"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        if (self.source == "lm_head") != bool(self.token_ids or self.tokens):
            raise ValueError("token_ids: go with source: lm_head, and only with it (or tokens)")
        if self.token_ids and self.tokens:
            raise ValueError("token_ids: give either token_ids or tokens")
        if not self.mark and self.layout != "apart":
            raise ValueError(f"mark: layout {self.layout} needs one")
        return self


@dataclass(frozen=True, slots=True)
class StepJudge:
    """The judge; see `Judge`."""

    activation: str
    outputs: tuple[float, ...]
    aggregate: str
    attributes: Mapping[str, NamedAggregate]

    def __call__(self, values: Sequence[Sequence[float]], /) -> Verdict:
        """A row for each step."""
        activated = [self._activated(row) for row in values]
        scores = [_weighted(self.outputs, row) for row in activated]
        attributes = {
            name: AGGREGATES[named.aggregate]([_weighted(named.outputs, row) for row in activated])
            for name, named in self.attributes.items()
        }
        steps = tuple(StepScore(score, 0, 0, 0) for score in scores)
        return Verdict(AGGREGATES[self.aggregate](scores), attributes, steps)

    def _activated(self, row: Sequence[float]) -> Sequence[float]:
        if self.activation == "softmax":
            return softmax(row)
        return [sigmoid(value) for value in row] if self.activation == "sigmoid" else row


def _weighted(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def reading_of(options: Options, files: TokenizerFiles) -> StepReading:
    """How steps are read of a conversation.

    Raises:
        ConfigError: the mark is no single token.
    """
    mark_id = options.mark_id
    if mark_id is None and options.mark:
        mark_id = files.only_id(options.mark, "scorer.mark")
    return StepReading(
        layout=options.layout,
        mark=options.mark,
        mark_id=mark_id,
        between=options.between,
        separator=options.separator,
        empty_steps=options.empty_steps,
        strips=options.strip_steps,
        offset=options.offset,
    )


def load(source: KindSource) -> BatchScorer:
    """Loads a checkpoint.

    Raises:
        ModelLoadError: the checkpoint has no such head in its files.
        ConfigError: options that the kind does not have, or that do not fit the head or the tokenizer.
    """
    options = source.options(Options)
    if source.settings.deterministic:
        raise ConfigError("deterministic: goes without process rewards, whose reads per conversation have no bound")
    readout = _readout(source, options)
    for key, given in (("outputs", options.outputs), *((f"attributes.{n}", a.outputs) for n, a in options.attributes.items())):
        if len(given) != readout.outputs:
            raise ConfigError(f"scorer.{key}: {len(given)} for the {readout.outputs} outputs that are read")
    if readout.outputs == 1 and options.activation == "softmax":
        raise ConfigError("scorer.activation: a softmax over one output is always 1; take sigmoid or none")
    vocabulary = readout.backbone.vocabulary_size
    if options.mark_id is not None and options.mark_id >= vocabulary:
        raise ConfigError(f"scorer.mark_id: {options.mark_id} is no id of this vocabulary of {vocabulary}")
    return BatchScorer(
        kind=KIND,
        readout=readout,
        reading=reading_of(options, source.tokenizer),
        judge=StepJudge(options.activation, options.outputs, options.aggregate, options.attributes),
        settings=source.described(KIND, options),
        attribute_names=tuple(options.attributes),
    )


def _readout(source: KindSource, options: Options) -> Readout:
    if options.source == "head":
        return source.head_readout(options.head)
    return source.logit_readout(source.token_ids(options.token_ids, options.tokens))
