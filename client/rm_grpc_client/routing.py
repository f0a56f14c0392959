"""Which of several servers an item goes to. Pure: no I/O, and the caller brings the clock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds for which a server that failed is not asked, doubled with each failure."""
_SLACK_ITEMS = 16
"""How many items more than the least loaded one a group's own server may have before the group's next ones go elsewhere."""

Strategy = Literal["least_loaded", "group"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


@dataclass(slots=True)
class _Server:
    in_flight: int = 0
    is_serving: bool = True
    failures: int = 0
    paused_until: float = 0.0


class Routing:
    """What is known of each server, and the choice among them.

    Args:
        strategy: "least_loaded" takes the server with the fewest items in flight; "group" keeps what belongs together on one
            server, which computes its prompt once, as long as that is not far busier than others.
    """

    def __init__(self, addresses: Sequence[str], strategy: Strategy = "least_loaded") -> None:
        self.strategy = strategy
        self._servers: dict[str, _Server] = {}
        self.set_addresses(addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The servers that there are."""
        return tuple(self._servers)

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """Replaces the servers; what is known of those that stay is kept."""
        self._servers = {address: self._servers.get(address) or _Server() for address in addresses}

    def choose(self, group: Hashable | None, now: float, *, without: Iterable[str] = ()) -> str | None:
        """The server for an item, or None where there is none beside `without`.

        Those that serve come before those that failed lately; when all failed, the one whose pause ends first.
        """
        excluded = set(without)
        there = {address: server for address, server in self._servers.items() if address not in excluded}
        if not there:
            return None
        up = {address: server for address, server in there.items() if server.is_serving and server.paused_until <= now}
        if not up:
            return min(there, key=lambda address: (there[address].paused_until, address))
        least = min(up, key=lambda address: up[address].in_flight)
        if self.strategy == "least_loaded" or group is None:
            return least
        own = max(up, key=lambda address: _weight(address, group))
        return own if up[own].in_flight <= up[least].in_flight + _SLACK_ITEMS else least

    def sent(self, address: str) -> Callable[[object], None]:
        """An item is on its way to a server; what is returned is called when it has come back, or was taken back."""
        server = self._servers[address]
        server.in_flight += 1

        def ended(_: object) -> None:
            server.in_flight -= 1

        return ended

    def answered(self, address: str) -> None:
        """A server did what it is there for."""
        if address in self._servers:
            self._servers[address].failures = 0
            self._servers[address].paused_until = 0.0

    def failed(self, address: str, now: float) -> None:
        """A server cannot be reached, or cannot score. Failures that come together count once."""
        server = self._servers.get(address)
        if server is not None and server.paused_until <= now:
            server.failures += 1
            server.paused_until = now + min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** (server.failures - 1))

    def set_health(self, address: str, is_serving: bool) -> None:
        """What a server says of its own health."""
        server = self._servers.get(address)
        if server is not None:
            if is_serving and not server.is_serving:
                server.paused_until = 0.0
            server.is_serving = is_serving


def _weight(address: str, group: Hashable) -> bytes:
    """Rendezvous hashing: when a server goes, only its own groups move."""
    return hashlib.blake2b(f"{address}\0{group!r}".encode(errors="surrogatepass"), digest_size=8).digest()
