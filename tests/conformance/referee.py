"""A proxy that holds the client to the rules of a stream, and ends the stream of one that breaks them.

It lets `opened` wait, so that a client is seen that does not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

from conformance.proxy import Breach, Passage
from rm_grpc.v1.reward_service_pb2 import ScoreBatchRequest, ScoreBatchResponse

_OPENING_SECONDS = 0.3
_MOST_ITEMS = 32
_MOST_BYTES = 1_100_000
"""Of a message: about 1 MB."""


class Referee(Passage):
    """See the module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened = False
        self._in_flight: dict[str, int] = {}
        self._window = (0, 0)
        self._breach = ""

    def requests(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """See `Passage`."""
        for at, request in enumerate(requests):
            with self._lock:
                self._judge(ScoreBatchRequest.FromString(request), first=at == 0)
            if self._breach:
                return
            yield request
        with self._lock:
            if self._in_flight:
                self._breach = f"half-closed while {len(self._in_flight)} items have no result"

    def responses(self, responses: Iterable[bytes]) -> Iterator[bytes]:
        """See `Passage`."""
        for raw in responses:
            response = ScoreBatchResponse.FromString(raw)
            kind = response.WhichOneof("message")
            if kind == "opened":
                time.sleep(_OPENING_SECONDS)
            with self._lock:
                if self._breach:
                    raise Breach(self._breach)
                if kind == "opened":
                    self._opened = True
                    self._window = (response.opened.window.items, response.opened.window.bytes)
                for result in response.results.results:
                    self._in_flight.pop(result.id, None)
            yield raw
        if self._breach:
            raise Breach(self._breach)

    def _judge(self, request: ScoreBatchRequest, *, first: bool) -> None:
        kind = request.WhichOneof("message")
        items = request.items.items
        if first != (kind == "open"):
            self._breach = f"the first message must open the stream, and no other; this one is {kind}"
        elif not (first or self._opened):
            self._breach = f"a message ({kind}) before the stream was opened"
        elif len(items) > _MOST_ITEMS or (len(items) > 1 and request.ByteSize() > _MOST_BYTES):
            self._breach = f"a message of {len(items)} items and {request.ByteSize()} bytes"
        for item in items:
            if not (item.id.isdecimal() and str(int(item.id)) == item.id):
                self._breach = f"the id {item.id!r} is no position"
            if item.id in self._in_flight:
                self._breach = f"the item {item.id} was sent while it was in flight"
            self._in_flight[item.id] = item.ByteSize()
        most_items, most_bytes = self._window
        total = sum(self._in_flight.values())
        if len(self._in_flight) > most_items or (total > most_bytes and len(self._in_flight) > 1):
            self._breach = f"{len(self._in_flight)} items of {total} bytes in flight, and the window is {self._window}"
