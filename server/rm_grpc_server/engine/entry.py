"""An item on its way through the engine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rm_grpc.errors import RewardError
from rm_grpc.types import Item, Score, ScoreOptions
from rm_grpc_server.text.encoding import Encoding


@dataclass(slots=True, eq=False)
class Entry:
    """An accepted item; the only value of the engine that carries a future.

    Attributes:
        item, options: what was asked.
        future: resolves to the one outcome; the event loop's.
        deadline: on the engine's clock, or None.
        accepted: when the engine took it, on its clock.
        encoding: set once the text pipeline is done.
        queued: when it began to wait for a forward pass.
    """

    item: Item
    options: ScoreOptions
    future: asyncio.Future[Score | RewardError]
    deadline: float | None
    accepted: float
    text_started: float = 0.0
    encoding: Encoding | None = None
    queued: float = 0.0

    @property
    def tokens(self) -> int:
        """Its length once encoded."""
        return len(self.encoding.ids) if self.encoding is not None else 0

    def resolve(self, outcome: Score | RewardError) -> None:
        """Gives the outcome, unless there is one already."""
        if not self.future.done():
            self.future.set_result(outcome)

    def is_expired(self, now: float) -> bool:
        """Whether its time has run out."""
        return self.deadline is not None and now >= self.deadline
