"""Ways to lay conversations into forward passes, for the bare forward that the service is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["single", "packed", "padded"]


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to lay conversations into passes.

    Attributes:
        kind: single is one conversation a pass; packed is several in one row under a block-diagonal mask; padded is rows of one
            conversation each, sorted by length and padded on the right.
        tokens: most tokens of a pass, padding included; a longer conversation has a pass to itself.
    """

    kind: Kind
    tokens: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "single" else f"{self.kind} {self.tokens}"

    def passes(self, lengths: Sequence[int]) -> list[list[int]]:
        """Which conversations each pass holds, by position."""
        if self.kind == "single":
            return [[at] for at in range(len(lengths))]
        longest_first = sorted(range(len(lengths)), key=lambda at: -lengths[at])
        return self._first_fit(longest_first, lengths) if self.kind == "packed" else self._rows(longest_first, lengths)

    def _first_fit(self, order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        passes: list[list[int]] = []
        room: list[int] = []
        for at in order:
            fits = next((place for place, free in enumerate(room) if free >= lengths[at]), None)
            if fits is None:
                passes.append([at])
                room.append(self.tokens - lengths[at])
            else:
                passes[fits].append(at)
                room[fits] -= lengths[at]
        return passes

    def _rows(self, order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        passes: list[list[int]] = []
        for at in order:
            if passes and lengths[passes[-1][0]] * (len(passes[-1]) + 1) <= self.tokens:
                passes[-1].append(at)
            else:
                passes.append([at])
        return passes
