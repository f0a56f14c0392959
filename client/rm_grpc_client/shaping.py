"""What is done to scores before a trainer uses them. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

_LEAST_STD = 1e-6
"""Standard deviations below this are taken for none: rewards that are all alike are not scaled."""


@dataclass(frozen=True, slots=True)
class Shaping:
    """How rewards follow from scores: normalised, then centred, then scaled, then clipped. What is None stays None.

    Attributes:
        normalization: (mean, std) of the model's scores, which gives (score - mean) / std; or "running" for the mean and
            standard deviation of all scores so far, itself included.
        centring: "prompt" takes from each reward the mean of the rewards of its prompt, so that prompts of different difficulty
            weigh alike; what could not be scored counts for nothing, and what is alone becomes 0.
        scaling: "prompt" divides by the standard deviation of the rewards of its prompt, as GRPO does (DeepSeekMath,
            arXiv:2402.03300); rewards that are all alike are left as they are.
        clip: least and largest reward.
    """

    normalization: tuple[float, float] | Literal["none", "running"] = "none"
    centring: Literal["none", "prompt"] = "none"
    scaling: Literal["none", "prompt"] = "none"
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.normalization not in ("none", "running"):
            mean, std = _two_numbers("normalization", self.normalization)
            if not std > 0:
                raise ValueError(f"normalization: the standard deviation must be above 0, this one is {std}")
            object.__setattr__(self, "normalization", (mean, std))
        for name in ("centring", "scaling"):
            if getattr(self, name) not in ("none", "prompt"):
                raise ValueError(f"{name}: must be none or prompt, not {getattr(self, name)!r}")
        if self.clip is not None:
            least, largest = _two_numbers("clip", self.clip)
            if not least < largest:
                raise ValueError(f"clip: {self.clip} must be the least and the largest reward")

    @property
    def needs_groups(self) -> bool:
        """Whether a reward depends on the others of its prompt."""
        return self.centring == "prompt" or self.scaling == "prompt"


def _two_numbers(name: str, given: object) -> tuple[float, float]:
    if isinstance(given, (tuple, list)) and len(given) == 2 and all(isinstance(one, (int, float)) for one in given):
        first, second = float(given[0]), float(given[1])
        if math.isfinite(first) and math.isfinite(second):
            return first, second
    raise ValueError(f"{name}: must be two numbers, not {given!r}")


class Shaper:
    """Applies a shaping; holds what it has seen for running statistics."""

    def __init__(self, shaping: Shaping) -> None:
        self.shaping = shaping
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def shaped(self, scores: Sequence[float | None], prompts: Sequence[Hashable]) -> list[float | None]:
        """The rewards of scores that are there together.

        Args:
            prompts: what those of one prompt have in common; None for what is alone.
        """
        values = [None if score is None else self._normalised(score) for score in scores]
        if self.shaping.needs_groups:
            values = self._by_prompt(values, prompts)
        if (clip := self.shaping.clip) is not None:
            values = [None if value is None else min(max(value, clip[0]), clip[1]) for value in values]
        return values

    def _normalised(self, score: float) -> float:
        rule = self.shaping.normalization
        if rule == "none":
            return score
        if isinstance(rule, tuple):
            return (score - rule[0]) / rule[1]
        self._count += 1  # Welford's algorithm
        before = self._mean
        self._mean += (score - before) / self._count
        self._squares += (score - before) * (score - self._mean)
        std = math.sqrt(self._squares / self._count)
        return (score - self._mean) / (std if std > _LEAST_STD else 1.0)

    def _by_prompt(self, values: Sequence[float | None], prompts: Sequence[Hashable]) -> list[float | None]:
        keys: list[Hashable] = [("alone", at) if prompt is None else ("prompt", prompt) for at, prompt in enumerate(prompts)]
        found: dict[Hashable, list[float]] = {}
        for key, value in zip(keys, values, strict=True):
            if value is not None:
                found.setdefault(key, []).append(value)
        means = {key: fmean(group) for key, group in found.items()}
        scales = {key: _std(group) if self.shaping.scaling == "prompt" else 1.0 for key, group in found.items()}
        centres = means if self.shaping.centring == "prompt" else dict.fromkeys(means, 0.0)
        return [
            None if value is None else (value - centres[key]) / scales[key] for key, value in zip(keys, values, strict=True)
        ]


def _std(values: Sequence[float]) -> float:
    """The standard deviation of a sample, as torch.std has it; 1 where there is none."""
    if len(values) < 2:
        return 1.0
    mean = fmean(values)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return std if std > _LEAST_STD else 1.0
