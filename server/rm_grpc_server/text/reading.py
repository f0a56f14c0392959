"""The plainest ways to read: the rendered conversation, at positions that its ids tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rm_grpc import errors
from rm_grpc.types import Item, ScoreOptions
from rm_grpc_server.text.encoding import Scope, TokenArray

if TYPE_CHECKING:
    from rm_grpc_server.text.pipeline import TextPipeline


class Rendered:
    """What reads the rendered conversation as it is."""

    __slots__ = ()
    scope: ClassVar[Scope] = "rendered"

    def lay_out(self, item: Item, text: TextPipeline, options: ScoreOptions, /) -> None:
        """See `Reading`."""

    def probe(self, length: int, /) -> tuple[int, ...]:
        """The last position."""
        return (length - 1,)


@dataclass(frozen=True, slots=True)
class LastToken(Rendered):
    """The last token, or the last that is not `skip`; the first where all are."""

    skip: int | None = None

    def positions(self, ids: TokenArray, /) -> tuple[int, ...]:
        """See `Reading`."""
        last = len(ids) - 1
        while self.skip is not None and last > 0 and ids[last] == self.skip:
            last -= 1
        return (last,)


@dataclass(frozen=True, slots=True)
class GateReading(Rendered):
    """See `Reading`: the gate's position, then the last."""

    pattern: tuple[int, ...]

    def positions(self, ids: TokenArray, /) -> tuple[int, ...]:
        """See `Reading`."""
        width = len(self.pattern)
        if len(ids) >= width:
            windows = np.lib.stride_tricks.sliding_window_view(ids, width)
            found = np.flatnonzero((windows == np.array(self.pattern)).all(axis=1))
            if len(found):
                return (int(found[-1]), len(ids) - 1)
        raise errors.InvalidRequestError(
            f"the tokens do not hold the pattern {list(self.pattern)} that ends this model's prompt; send a conversation with "
            "a message of the user before the response",
            field="conversation.messages",
        )

    def probe(self, length: int, /) -> tuple[int, ...]:
        """See `Reading`."""
        return (length // 2, length - 1)


class OfConversations:
    """What puts its own texts together, so that neither text nor token ids will do instead of a conversation."""

    __slots__ = ()
    scope: ClassVar[Scope] = "conversations"

    def positions(self, ids: TokenArray, /) -> tuple[int, ...]:
        """See `Reading`."""
        del ids
        raise errors.InvalidRequestError(
            "this model's kind puts its own texts together; send a conversation, neither text nor token ids",
            field="conversation",
        )

    def probe(self, length: int, /) -> tuple[int, ...]:
        """The last position."""
        return (length - 1,)
