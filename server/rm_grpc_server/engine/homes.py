"""Which replica has which prompt at hand from earlier batches, as far as the server can tell."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.models.packed import MIN_STORED_TOKENS

_REMEMBERED = 4096


class Homes:
    """Remembers where conversations that begin alike were computed last."""

    def __init__(self) -> None:
        self._replica_of: OrderedDict[bytes, int] = OrderedDict()

    def settle(self, entries: Iterable[Entry], replica: int) -> None:
        """A replica computes these."""
        for entry in entries:
            self._replica_of[_beginning(entry)] = replica
            self._replica_of.move_to_end(_beginning(entry))
        while len(self._replica_of) > _REMEMBERED:
            self._replica_of.popitem(last=False)

    def of(self, replica: int) -> Callable[[Entry], bool]:
        """Whether an item is at home there, or nowhere."""
        return lambda entry: self._replica_of.get(_beginning(entry), replica) == replica


def _beginning(entry: Entry) -> bytes:
    return entry.ids[:MIN_STORED_TOKENS].tobytes()
