"""How long conversations are, in tokens: the distributions that all benchmarks draw from."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

PROMPT_TOKENS = 60
GROUP = 8
GROUP_PROMPT_TOKENS, GROUP_ANSWER_TOKENS = 600, 150
_ANSWER_MEDIAN, _ANSWER_SIGMA, _ANSWER_RANGE = 300, 0.7, (16, 2000)


def rollout_answers(count: int, seed: int = 0) -> list[int]:
    """W1: log-normal with a median of 300 tokens, cut to 16 to 2000.

    They are the distribution's quantiles in random order, so that few conversations already have its mean.
    """
    normal, order = NormalDist(math.log(_ANSWER_MEDIAN), _ANSWER_SIGMA), random.Random(seed)
    low, high = _ANSWER_RANGE
    lengths = [min(max(round(math.exp(normal.inv_cdf((at + 0.5) / count))), low), high) for at in range(count)]
    order.shuffle(lengths)
    return lengths


def group_answer(draw: random.Random) -> int:
    """W2: about 150 tokens."""
    return round(draw.uniform(0.7, 1.3) * GROUP_ANSWER_TOKENS)
