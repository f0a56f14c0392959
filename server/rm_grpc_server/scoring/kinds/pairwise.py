"""Models that compare two responses, asked in both orders: RLHFlow's pair preference model and PairRM.

The other response is `metadata["rival"]`. A decoder answers with the letter of the better response, whose probability is the
mean of both orders (model card of RLHFlow/pair-preference-model-LLaMA3-8B). PairRM is an encoder that gives each candidate a
number; the score is the difference in one order less that in the other (llm_blender). Whether the orders disagree stands
among the attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor

from rm_grpc.types import Verdict
from rm_grpc_server.config import Settings
from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.models.encoder import Encoder
from rm_grpc_server.models.heads import Layer
from rm_grpc_server.scoring.arithmetic import softmax
from rm_grpc_server.scoring.protocols import BatchScorer, EncoderScorer
from rm_grpc_server.scoring.source import KindSource
from rm_grpc_server.text.pairs import (
    MAX_LENGTH,
    MAX_SOURCE,
    ORDER_ATTRIBUTES,
    PREFIX_IDS,
    Candidates,
    Comparison,
    context_template,
)

KIND = "pairwise"
_CONTEXT = (
    "\n{% for message in messages %}{{ '\n<turn> ' + ('user' if loop.index0 % 2 == 0 else 'assistant') + '\n ' + "
    "message['content'] }}{% endfor %}{{ '\n' }}"
)
_MESSAGE = "[CONTEXT] {context} [RESPONSE A] {first} [RESPONSE B] {second} \n"


class Options(Settings):
    """Settings of the kind; those of a decoder do not concern PairRM, whose layout is its own."""

    tokens: tuple[str, str] = Field(("A", "B"), description="the answers that name the first and the second response")
    message: str = Field(_MESSAGE, description="the message of the user, with {context}, {first} and {second}")
    context_template: str = Field(_CONTEXT, description="a Jinja chat template for the messages before the responses")
    max_source: int = Field(MAX_SOURCE, gt=0, description="PairRM: most tokens of the prompt")
    max_length: int = Field(MAX_LENGTH, gt=0, description="PairRM: most tokens of prompt and both responses")

    @field_validator("message")
    @classmethod
    def _names_both(cls, message: str) -> str:
        if missing := [name for name in ("{context}", "{first}", "{second}") if name not in message]:
            raise ValueError(f"lacks {', '.join(missing)}")
        return message


def first_probability(values: Sequence[Sequence[float]], /) -> Verdict:
    """The judge of one order: the probability of the first answer among the two; see `Judge`."""
    (row,) = values
    return Verdict(softmax(row)[0])


def first_ahead(values: Sequence[Sequence[float]], /) -> Verdict:
    """The judge of one order: by how much the first candidate is ahead; see `Judge`."""
    ((ahead,),) = values
    return Verdict(ahead)


def load(source: KindSource) -> BatchScorer | EncoderScorer:
    """Loads a checkpoint.

    Raises:
        ModelLoadError: the checkpoint has no such head in its files.
        ConfigError: options that the kind does not have, or answers that are no single tokens.
    """
    options = source.options(Options)
    if source.checkpoint.is_encoder:
        return _encoder(source, options)
    ids = source.token_ids((), options.tokens)
    context_template(options.context_template)  # a template that does not compile is told now
    return BatchScorer(
        kind=KIND,
        readout=source.logit_readout(ids),
        reading=Comparison(context_template=options.context_template, message=options.message),
        judge=first_probability,
        settings=source.described(KIND, options),
        attribute_names=ORDER_ATTRIBUTES,
    )


def _encoder(source: KindSource, options: Options) -> EncoderScorer:
    config: Mapping[str, Any] = source.checkpoint.config
    if missing := [name for name in PREFIX_IDS if name not in config]:
        raise ModelLoadError(f"{source.checkpoint.source}: is no PairRM, for its config lacks {', '.join(missing)}")
    wanted = [f"head_layer.{at}.{part}" for at in (1, 4) for part in ("weight", "bias")]
    if missing := [name for name in wanted if name not in source.files.names]:
        raise ModelLoadError(f"{source.checkpoint.source}: lacks {', '.join(missing)}, which PairRM reads its candidates with")
    model = source.encoder("none")
    first, last = (
        Layer(*(source.files.read(f"head_layer.{at}.{part}").to(model.device).float() for part in ("weight", "bias")))
        for at in (1, 4)
    )

    def ahead(output: Any, reads_R2: Tensor) -> Tensor:
        hidden_R = output.last_hidden_state[reads_R2[:, 0], reads_R2[:, 1]].float()
        at_source, *at_candidates = hidden_R.reshape(-1, len(PREFIX_IDS), hidden_R.shape[1]).unbind(dim=1)
        left, right = (last(first(torch.cat([at_source, one], dim=1)).tanh()) for one in at_candidates)
        return (left - right).mean(dim=1, keepdim=True)

    return EncoderScorer(
        kind=KIND,
        encoder=Encoder(model, ahead, outputs=1),
        reading=Candidates.of(config, source.tokenizer, max_source=options.max_source, max_length=options.max_length),
        judge=first_ahead,
        settings=source.described(KIND, options),
        attribute_names=ORDER_ATTRIBUTES,
    )
