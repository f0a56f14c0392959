"""The order in which a stream gives its results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from rm_grpc.types import Result

Ordering: TypeAlias = Literal["completion", "submission"]
ORDERINGS: tuple[Ordering, ...] = ("completion", "submission")


class SubmissionOrder:
    """Holds results back until all before them are there.

    The server can do so too, but it cannot know where an item that is sent again belongs.
    """

    def __init__(self) -> None:
        self._held: dict[int, Result] = {}
        self._next = 0

    def __len__(self) -> int:
        """How many are held back."""
        return len(self._held)

    def take(self, results: Iterable[Result]) -> list[Result]:
        """Those whose turn has come, now that these are there too."""
        self._held.update((result.index, result) for result in results)
        ready = []
        while (result := self._held.pop(self._next, None)) is not None:
            ready.append(result)
            self._next += 1
        return ready
