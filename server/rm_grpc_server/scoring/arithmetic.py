"""Pure functions from numbers to numbers, on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rm_grpc.types import Activation

_LARGEST = 3.4028234663852886e38
"""The largest float32."""


def is_float32(value: float) -> bool:
    """Whether a number arrives as one: scores are float32 on the wire, and neither infinite nor NaN."""
    return abs(value) <= _LARGEST


def activate(raw_score: float, activation: Activation) -> float:
    """The score; see `sigmoid`."""
    return raw_score if activation is Activation.NONE else sigmoid(raw_score)


def sigmoid(logit: float) -> float:
    """The logistic function, computed without overflow for any finite input."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    growth = math.exp(logit)
    return growth / (1.0 + growth)


def softmax(logits: Sequence[float], *, whole: bool = False) -> list[float]:
    """Probabilities; the largest logit is subtracted first, so that none overflows.

    Args:
        whole: the logits are log-probabilities of a larger whole already.
    """
    if whole:
        return [math.exp(logit) for logit in logits]
    top = max(logits)
    growths = [math.exp(logit - top) for logit in logits]
    return [growth / sum(growths) for growth in growths]
