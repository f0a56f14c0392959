"""Scores beside their reference: a benchmark that is fast and wrong is no benchmark."""

from __future__ import annotations

from collections.abc import Sequence

TOLERANCE = {"float32": 1e-3}
"""Largest difference that is accepted; a dtype that is not named here is reported only."""


class WrongScoreError(Exception):
    """A score differs from its reference by more than rounding."""


def largest_difference(scores: Sequence[float], reference: Sequence[float], *, dtype: str, of: str) -> float:
    """The largest difference of scores from their reference.

    Raises:
        WrongScoreError: it is beyond what the dtype's rounding explains, or a score is missing.
    """
    if len(scores) != len(reference):
        raise WrongScoreError(f"{of}: {len(scores)} scores of {len(reference)} conversations")
    largest = max(abs(a - b) for a, b in zip(scores, reference, strict=True))
    if not largest <= TOLERANCE.get(dtype, float("inf")):
        raise WrongScoreError(f"{of}: a score differs from its reference by {largest:.3g} in {dtype}")
    return largest
