"""How much of requests' bodies is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.types import Message, Receive

from rm_grpc.errors import MessageTooLargeError, OverloadedError
from rm_grpc.json_lines import refuse_constant


class BodyBudget:
    """Bytes of bodies that are held at once.

    Args:
        one: most bytes of one body.
        together: most bytes of all bodies whose requests are in work.
    """

    def __init__(self, one: int, together: int) -> None:
        self._one = one
        self._together = together
        self._held = 0

    @contextmanager
    def limited(self, request: Request) -> Iterator[Request]:
        """The request, reading which raises past the budget.

        Raises:
            MessageTooLargeError: when its body is read: it is too large alone.
            OverloadedError: when its body is read: there is no room beside the others.
        """
        body = _Body(self, request.receive)
        try:
            yield _StrictRequest(request.scope, body.receive)
        finally:
            self._held -= body.bytes

    def take(self, more: int, before: int) -> None:
        """Counts `more` bytes of a body that had `before`."""
        if before + more > self._one:
            raise MessageTooLargeError(f"the body has more than {self._one} bytes; send less at a time")
        if self._held + more > self._together:
            raise OverloadedError(f"bodies of {self._held} bytes are in work, and this one has no room", retry_delay=1.0)
        self._held += more


class _StrictRequest(Request):
    """JSON as it is defined: without NaN and infinity, which Python's parser would take."""

    async def json(self) -> Any:
        return json.loads(await self.body(), parse_constant=refuse_constant)


class _Body:
    def __init__(self, budget: BodyBudget, receive: Receive) -> None:
        self._budget = budget
        self._receive = receive
        self.bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            more = len(message.get("body", b""))
            self._budget.take(more, self.bytes)
            self.bytes += more
        return message
