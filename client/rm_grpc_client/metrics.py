"""What a trainer logs of its rewards: a plain dict, for any logger."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence

from rm_grpc.errors import RewardError
from rm_grpc.types import Score

_REMEMBERED = 65_536
"""Most recent items that the figures are of, so that whoever never asks does not run out of memory."""


class Metrics:
    """Figures of the items since the last reset, the most recent 65,536 at most."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self._values: deque[float] = deque(maxlen=_REMEMBERED)
        self._scored: deque[Score] = deque(maxlen=_REMEMBERED)
        self._lengths: deque[int] = deque(maxlen=_REMEMBERED)
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._outcomes: deque[str] = deque(maxlen=_REMEMBERED)
        """The reason of each error, and nothing for a score."""

    def scored(self, score: Score, length: int, seconds: float) -> None:
        """An item was scored.

        Args:
            length: characters of its response.
            seconds: from its submission to its score.
        """
        self._outcomes.append("")
        self._scored.append(score)
        self._lengths.append(length)
        self._seconds.append(seconds)

    def rewarded(self, values: Iterable[float | None]) -> None:
        """Rewards, after shaping."""
        self._values.extend(value for value in values if value is not None)

    def failed(self, error: RewardError) -> None:
        """An item was not scored."""
        self._outcomes.append(error.reason)

    def figures(self) -> dict[str, float]:
        """The figures; one that is of nothing is left out.

        `reward/*` is of rewards after shaping, `score/*` and `component/NAME/*` of the service's numbers, `latency/*` in
        seconds. `score/length_correlation` is Pearson's, of scores and characters of the response.
        """
        scored, errors = len(self._scored), Counter(filter(None, self._outcomes))
        figures: dict[str, float] = {"count": float(len(self._outcomes))}
        if self._outcomes:
            figures["error_rate"] = errors.total() / len(self._outcomes)
        figures |= {f"errors/{reason}": float(count) for reason, count in errors.items()}
        figures |= _spread("reward", self._values)
        if not scored:
            return figures
        scores = [score.score for score in self._scored]
        figures |= _spread("score", scores)
        components: defaultdict[str, list[float]] = defaultdict(list)
        for score in self._scored:
            for name, value in score.attributes.items():
                components[name].append(value)
        for name, values in components.items():
            figures |= _spread(f"component/{name}", values)
        figures["truncation_rate"] = sum(score.truncated for score in self._scored) / scored
        figures["tokens"] = float(sum(score.token_count for score in self._scored))
        ordered = sorted(self._seconds)
        figures["latency/mean"] = math.fsum(ordered) / scored
        figures["latency/p50"] = ordered[(scored - 1) // 2]
        figures["latency/p95"] = ordered[math.ceil(0.95 * scored) - 1]
        if (correlation := _correlation(scores, list(self._lengths))) is not None:
            figures["score/length_correlation"] = correlation
        return figures


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return {f"{name}/mean": mean, f"{name}/std": std, f"{name}/min": min(values), f"{name}/max": max(values)}


def _correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Pearson's correlation, or None where one of the two does not vary."""
    x_mean, y_mean = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    x_spread = math.sqrt(math.fsum((x - x_mean) ** 2 for x in xs))
    y_spread = math.sqrt(math.fsum((y - y_mean) ** 2 for y in ys))
    if not x_spread or not y_spread:
        return None
    return math.fsum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / (x_spread * y_spread)
