"""Entries that wait for a forward pass, and the batches that they become. Pure: the caller brings the clock."""

from __future__ import annotations

from collections import deque

from rm_grpc.errors import OverloadedError
from rm_grpc_server.engine.entry import Entry


class TokenBudgetQueue:
    """First come, first served, in batches bounded by tokens.

    Attributes:
        max_items, max_tokens: what may wait at most.
        items, tokens: what waits now, entries that are done already included until a batch is taken.
    """

    def __init__(self, *, max_items: int, max_tokens: int) -> None:
        self.max_items = max_items
        self.max_tokens = max_tokens
        self.tokens = 0
        self._entries: deque[Entry] = deque()

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
        self._entries.append(entry)
        self.tokens += entry.tokens

    def take_batch(self, budget: int, now: float) -> tuple[list[Entry], list[Entry]]:
        """The next batch, and the entries before its end whose time has run out.

        The batch holds at most `budget` tokens, or one entry that alone is longer. Entries that were resolved meanwhile
        (cancelled) are dropped.
        """
        batch: list[Entry] = []
        expired: list[Entry] = []
        used = 0
        while self._entries:
            entry = self._entries[0]
            if entry.future.done():
                pass
            elif entry.is_expired(now):
                expired.append(entry)
            elif batch and used + entry.tokens > budget:
                break
            else:
                batch.append(entry)
                used += entry.tokens
            self._entries.popleft()
            self.tokens -= entry.tokens
        return batch, expired

    def take_all(self) -> list[Entry]:
        """Everything that waits."""
        entries = list(self._entries)
        self._entries.clear()
        self.tokens = 0
        return entries
