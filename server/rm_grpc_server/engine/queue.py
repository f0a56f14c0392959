"""Entries that wait for a forward pass, and the batches that they become. Pure: no clock, no I/O."""

from __future__ import annotations

from collections import OrderedDict

from rm_grpc.errors import OverloadedError
from rm_grpc_server.engine.entry import Entry


class TokenBudgetQueue:
    """First come, first served, in batches bounded by tokens.

    Attributes:
        max_items, max_tokens: what may wait at most.
        tokens: what waits now.
    """

    def __init__(self, *, max_items: int, max_tokens: int) -> None:
        self.max_items = max_items
        self.max_tokens = max_tokens
        self.tokens = 0
        self._entries: OrderedDict[Entry, None] = OrderedDict()

    @property
    def items(self) -> int:
        """How many entries wait."""
        return len(self._entries)

    def put(self, entry: Entry) -> None:
        """Takes an encoded entry.

        Raises:
            OverloadedError: the queue is full.
        """
        if self.items >= self.max_items or (self.items and self.tokens + entry.tokens > self.max_tokens):
            raise OverloadedError(f"{self.items} items of {self.tokens} tokens wait already", retry_delay=1.0)
        self._entries[entry] = None
        self.tokens += entry.tokens

    def discard(self, entry: Entry) -> None:
        """Takes an entry out that has its outcome, if it waits here."""
        if entry in self._entries:
            del self._entries[entry]
            self.tokens -= entry.tokens

    def take_batch(self, budget: int) -> list[Entry]:
        """The next batch: at most `budget` tokens, or one entry that alone is longer. Entries with an outcome are left out."""
        batch: list[Entry] = []
        used = 0
        while self._entries:
            entry = next(iter(self._entries))
            if not entry.future.done():
                if batch and used + entry.tokens > budget:
                    break
                batch.append(entry)
                used += entry.tokens
            self.discard(entry)
        return batch

    def take_all(self) -> list[Entry]:
        """Everything that waits."""
        entries = list(self._entries)
        self._entries.clear()
        self.tokens = 0
        return entries
