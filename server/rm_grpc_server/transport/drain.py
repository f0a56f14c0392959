"""Whether the server is going down, known to every call in work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rm_grpc.errors import DrainingError


class Drain:
    """Begins once and never ends; knows the calls in work."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call is in work for the length of the block."""
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def idle(self, timeout: float) -> bool:
        """Waits until no call is in work; whether that came before `timeout` seconds."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True

    @property
    def begun(self) -> bool:
        """Whether nothing new is taken."""
        return self._begun.is_set()

    def begin(self) -> None:
        """From now on nothing new is taken."""
        self._begun.set()

    async def wait(self) -> None:
        """Until it begins."""
        await self._begun.wait()

    def refusal(self) -> DrainingError:
        """What new items get; another server, or this one restarted, may take them."""
        return DrainingError("the server is going down and takes nothing new", retry_delay=1.0)
