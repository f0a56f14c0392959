"""Whether the server is going down, known to every call in work."""

from __future__ import annotations

import asyncio

from rm_grpc.errors import DrainingError


class Drain:
    """Begins once and never ends."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

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
