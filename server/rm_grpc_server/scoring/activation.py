"""Functions that a caller may ask to have applied to a raw score."""

from __future__ import annotations

import math

from rm_grpc.types import Activation


def activate(raw_score: float, activation: Activation) -> float:
    """The score; the logistic function is computed without overflow for any finite input."""
    if activation is Activation.NONE:
        return raw_score
    if raw_score >= 0:
        return 1.0 / (1.0 + math.exp(-raw_score))
    growth = math.exp(raw_score)
    return growth / (1.0 + growth)
