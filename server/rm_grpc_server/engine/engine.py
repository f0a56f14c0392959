"""What the transport sees of a served model, whatever scores it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from rm_grpc.errors import DrainingError
from rm_grpc.types import Item, ModelInfo, ScoreOptions, TokenizeResult
from rm_grpc_server.engine.entry import Entry

STOPPED = DrainingError("the server stopped before the item was scored", retry_delay=1.0)
"""What is left of an item when its engine is closed."""


class Engine(Protocol):
    """Accepts items of one model and resolves each to exactly one outcome; lives on the event loop."""

    info: ModelInfo
    on_health: Callable[[bool], None]
    """Told whenever the model becomes able or unable to score."""

    @property
    def is_healthy(self) -> bool:
        """Whether it can score."""

    @property
    def fill(self) -> float:
        """How full its queue is, from 0 to 1."""

    def submit(
        self,
        items: Sequence[Item],
        options: ScoreOptions,
        *,
        timeout: float | None = None,
        stream: Hashable = None,
        sizes: Sequence[int] = (),
    ) -> list[Entry]:
        """Takes items in; each entry's future resolves to a score or an error, and never raises.

        Args:
            timeout: seconds that the whole call may take; an item's own timeout may be shorter.
            stream: whose items they are; streams are served in turn.
            sizes: bytes of each item.
        """

    async def tokenize(self, items: Sequence[Item], options: ScoreOptions) -> list[TokenizeResult]:
        """What the model would read for each item, and the error that scoring would give."""

    async def close(self) -> None:
        """Ends it; whatever is still on its way gets an error."""
