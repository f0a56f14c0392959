"""A score as the numbers that other servers give for it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from rm_grpc.types import Activation, ModelInfo, Score
from rm_grpc_server.transport.http.face import refuse

_ONE_LABEL = "LABEL_0"
"""What Transformers calls the only label of a head that names none."""


def head_outputs(score: Score, info: ModelInfo) -> list[tuple[str, float]]:
    """What a server that knows heads only gives for the model: each label's number where the head has several, else the score.

    Kinds that make one reward out of several numbers (gated objectives, ensembles) give that reward: a client that takes the
    only or the last number of the list must not get a component.
    """
    if score.attributes and info.scorer_kind == "sequence_classification":
        return list(score.attributes.items())
    return [(_ONE_LABEL, score.score)]


def activation(wanted: bool | None, field: str, info: ModelInfo) -> Activation:
    """The activation that a face's own flag asks for; nothing is applied that was not asked for.

    Raises:
        InvalidRequestError: the model gives several numbers, for which activations differ.
    """
    if not wanted:
        return Activation.NONE
    if len(info.attribute_names) > 1:
        raise refuse(
            field, f"the model gives {len(info.attribute_names)} numbers; take them raw and apply what they are meant for"
        )
    return Activation.SIGMOID


def plain(number: float) -> str:
    """A number in decimals, without an exponent, for clients that look for one with a pattern."""
    return format(Decimal(repr(number)), "f")


def token_count(scores: Sequence[Score]) -> int:
    """Tokens that were read."""
    return sum(score.token_count for score in scores)
