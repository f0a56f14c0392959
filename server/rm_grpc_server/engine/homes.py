"""Which replica has which prompt at hand from earlier batches, as far as the server can tell."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable

from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.models.packed import MIN_STORED_TOKENS

_REMEMBERED = 16_384
_LENGTHS = [MIN_STORED_TOKENS << doublings for doublings in range(8)]


class Homes:
    """Remembers which replicas computed conversations that begin alike.

    Beginnings of several lengths, each twice as long as the one before: a system message that all conversations have is at
    home everywhere, and tells nothing, while the prompt behind it is at home where it was computed.
    """

    def __init__(self) -> None:
        self._replicas_of: OrderedDict[bytes, set[int]] = OrderedDict()

    def settle(self, entries: Iterable[Entry], replica: int) -> None:
        """A replica computes these."""
        for entry in entries:
            for beginning in _beginnings(entry):
                self._replicas_of.setdefault(beginning, set()).add(replica)
                self._replicas_of.move_to_end(beginning)
        while len(self._replicas_of) > _REMEMBERED:
            self._replicas_of.popitem(last=False)

    def of(self, replica: int) -> Callable[[Entry], bool]:
        """Whether an item is at home there, or nowhere: by the longest of its beginnings that is known."""

        def is_home(entry: Entry) -> bool:
            known = (self._replicas_of.get(beginning) for beginning in reversed(_beginnings(entry)))
            return replica in next(filter(None, known), (replica,))

        return is_home


def _beginnings(entry: Entry) -> list[bytes]:
    """Digests of the item's first tokens: 64, 128, and so on, as far as there are so many."""
    state, start, found = hashlib.blake2b(digest_size=16), 0, []
    for length in _LENGTHS:
        if length > len(entry.ids):
            break
        state.update(entry.ids[start:length].data)
        found.append(state.digest())
        start = length
    return found
