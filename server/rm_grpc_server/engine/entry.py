"""An item on its way through the engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeAlias

from rm_grpc.errors import RewardError
from rm_grpc.types import Item, Score, ScoreOptions
from rm_grpc_server.text.encoding import Encoding, TokenArray, Tokens

_LOG = logging.getLogger(__name__)

Outcome: TypeAlias = Score | RewardError
Watcher: TypeAlias = "Callable[[Entry, Outcome], None]"
"""Told of an entry's outcome, on the event loop and in the midst of what gave it: it must neither raise nor wait."""


@dataclass(slots=True, eq=False)
class Entry:
    """An accepted item, and whoever waits for its one outcome.

    Not an asyncio future: each of a future's callbacks goes through the event loop by itself, which costs more than they do.

    Attributes:
        item, options: what was asked.
        deadline: on the engine's clock, or None.
        accepted: when the engine took it, on its clock.
        stream: whose it is; streams are served in turn.
        size: bytes on the wire, for the engine's bound.
        encoding: set once the text pipeline is done.
        queued: when it began to wait for a forward pass.
        crashes: how many replicas died while they computed it.
        outcome: once there is one.
    """

    item: Item
    options: ScoreOptions
    deadline: float | None
    accepted: float
    stream: Hashable = None
    size: int = 0
    text_started: float = 0.0
    encoding: Encoding | None = None
    queued: float = 0.0
    crashes: int = 0
    outcome: Outcome | None = None
    _watchers: tuple[Watcher, ...] = ()

    @property
    def ids(self) -> TokenArray:
        """What the model reads, once encoded."""
        assert self.encoding is not None
        return self.encoding.ids

    @property
    def work(self) -> Tokens | Item:
        """What the replica gets, once encoded."""
        assert self.encoding is not None
        return self.encoding.work

    @property
    def group(self) -> str:
        """The caller's hint of what it belongs together with."""
        return self.item.group

    def watch(self, watcher: Watcher) -> None:
        """Has it told of the outcome, at once where there is one; the first to watch is told first."""
        if self.outcome is None:
            self._watchers += (watcher,)
        else:
            self._tell(watcher, self.outcome)

    def resolve(self, outcome: Outcome) -> None:
        """Gives the outcome, unless there is one already. The event loop's alone to call."""
        if self.outcome is None:
            self.outcome = outcome
            watchers, self._watchers = self._watchers, ()
            for watcher in watchers:
                self._tell(watcher, outcome)

    def _tell(self, watcher: Watcher, outcome: Outcome) -> None:
        try:
            watcher(self, outcome)
        except Exception:  # noqa: BLE001 - a fault of one watcher is not that of the others, nor of the items beside this one
            _LOG.exception("who waited for item %r could not take its outcome", self.item.id)

    def is_over(self, now: float) -> bool:
        """Whether it has its outcome, or its time has run out."""
        return self.outcome is not None or (self.deadline is not None and now >= self.deadline)
