"""Where a scorer reads: small values that go from the replica's process to the server's, which has no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rm_grpc_server.text.encoding import TokenArray


class ReadPositions(Protocol):
    """Positions within a conversation whose hidden states are read, from its token ids."""

    def __call__(self, ids: TokenArray, /) -> tuple[int, ...]:
        """At least one, ascending."""


@dataclass(frozen=True, slots=True)
class LastToken:
    """The last token, or the last that is not `skip`; the first where all are."""

    skip: int | None = None

    def __call__(self, ids: TokenArray, /) -> tuple[int, ...]:
        """See the class."""
        last = len(ids) - 1
        while last > 0 and ids[last] == self.skip:
            last -= 1
        return (last,)
