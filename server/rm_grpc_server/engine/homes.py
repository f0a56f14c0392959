"""Which replica has which prompt at hand from earlier batches, as far as the server can tell."""

from __future__ import annotations

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable

from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.models.packed import MIN_STORED_TOKENS

_REMEMBERED = 16_384
_LENGTHS = 8


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
        return lambda entry: (
            replica
            in next(
                (known for beginning in reversed(_beginnings(entry)) if (known := self._replicas_of.get(beginning))), (replica,)
            )
        )


def _beginnings(entry: Entry) -> list[bytes]:
    lengths = itertools.takewhile(len(entry.ids).__ge__, (MIN_STORED_TOKENS << doublings for doublings in range(_LENGTHS)))
    return [hashlib.blake2b(entry.ids[:length].data, digest_size=16).digest() for length in lengths]
