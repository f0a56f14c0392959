"""Several servers as one: each item goes to one of them, and to another where that one fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

from rm_grpc import errors
from rm_grpc.types import Item
from rm_grpc_client.aio import AsyncRewardClient
from rm_grpc_client.lane import UNANSWERED_BY, Lane, Outcome
from rm_grpc_client.routing import Routing, Strategy

Addresses: TypeAlias = "str | Sequence[str] | Callable[[], Sequence[str]]"
"""host:port of one server or of several; or a function that tells them, asked again and again."""

_LOG = logging.getLogger(__name__)
_FAILOVER_SECONDS = 2.0
"""After how long a lost server's items go to another, where there is one."""
_REFRESH_SECONDS = 2.0
_PAUSE_SECONDS = 0.2
"""Between two rounds in which every server failed an item."""
_MOVES_ON = (errors.UnavailableError, errors.OverloadedError)
"""What another server may do better."""


class Fleet:
    """Scores items with whichever server is there. Lives on the event loop that it was made on.

    Args:
        addresses: the servers.
        connect: makes the client of one server, given its address and the seconds for which it tries to reach it.
        strategy: see `Routing`.
        reconnect: seconds for which an item is tried when all servers fail.
        hedge_after: seconds without an answer after which an item is sent to a second server too; the first score is taken.
    """

    def __init__(
        self,
        addresses: Addresses,
        connect: Callable[[str, float], AsyncRewardClient],
        *,
        strategy: Strategy = "least_loaded",
        reconnect: float = 60.0,
        hedge_after: float | None = None,
    ) -> None:
        self._tell = addresses if callable(addresses) else None
        given = [] if callable(addresses) else [addresses] if isinstance(addresses, str) else list(addresses)
        if not given and self._tell is None:
            raise errors.InvalidRequestError("at least one server is needed", field="addresses")
        self._connect = connect
        self._reconnect = reconnect
        self.hedge_after = hedge_after
        self._is_choice = self._tell is not None or len(given) > 1
        self._routing = Routing(given, strategy)
        self._lanes: dict[str, Lane] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._is_closed = False
        self._changed = asyncio.Event()
        self._ends: set[asyncio.Task[None]] = set()
        self._refresher = asyncio.create_task(self._refresh()) if self._tell is not None else None
        self._set_lanes(given)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The servers that there are now."""
        return self._routing.addresses

    async def any_client(self) -> AsyncRewardClient:
        """The client of one server, for questions that any of them answers.

        Raises:
            UnavailableError: none is known for `reconnect` seconds.
        """
        since = time.monotonic()
        while (address := self._routing.choose(None, time.monotonic())) is None:
            await self.wait_for_servers(since)
        return self._lanes[address].client

    async def score(self, item: Item, group: Hashable | None, deadline: float | None) -> Outcome:
        """An item's one outcome.

        Raises:
            RewardError: no item can be scored: the model is not served, or no server was there for `reconnect` seconds.
        """
        return await _Asked(self, item, group, deadline).outcome()

    async def close(self) -> None:
        """Ends all connections; what has no outcome is cancelled."""
        self._is_closed = True
        tasks = [*self._watches.values(), *self._ends, *([self._refresher] if self._refresher is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))
        self._changed.set()

    async def _refresh(self) -> None:
        """Asks for the servers again and again; what the function raises is told and changes nothing."""
        assert self._tell is not None
        while True:
            try:
                found = list(await asyncio.to_thread(self._tell))
            except Exception:  # noqa: BLE001 - a function of the caller's, which may raise anything
                _LOG.exception("the servers' addresses are not told; those that were known stay")
            else:
                if found and set(found) != set(self._routing.addresses):
                    self._routing.set_addresses(found)
                    self._set_lanes(found)
                    self._changed.set()
            await asyncio.sleep(_REFRESH_SECONDS)

    def _set_lanes(self, addresses: Sequence[str]) -> None:
        """Makes the lanes that are new, and ends those that are no longer named once their last item is back."""
        patience = min(_FAILOVER_SECONDS, self._reconnect) if self._is_choice else self._reconnect
        for address in addresses:
            if address not in self._lanes:
                self._lanes[address] = Lane(self._connect(address, patience))
                if self._is_choice:
                    told = self._health_teller(address)
                    self._watches[address] = asyncio.create_task(self._lanes[address].watch(told))
        for address in set(self._lanes) - set(addresses):
            self._watches.pop(address).cancel()
            end = asyncio.create_task(self._end(self._lanes.pop(address)))
            self._ends.add(end)
            end.add_done_callback(self._ends.discard)

    @staticmethod
    async def _end(lane: Lane) -> None:
        try:
            while not lane.is_idle:  # noqa: ASYNC110 - for the rare end of a server
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            await lane.close()

    def _health_teller(self, address: str) -> Callable[[bool], None]:
        return lambda is_serving: self._routing.set_health(address, is_serving)

    # --- for the items ------------------------------------------------------------------------------------------------

    def send(self, asked: _Asked, *, without: Sequence[str] = ()) -> str | None:
        """Sends an item to a server of its choice; None where there is none beside `without`.

        Raises:
            ItemCancelledError: the fleet is closed.
        """
        if self._is_closed:
            raise errors.ItemCancelledError("the environment was closed")
        address = self._routing.choose(asked.group, time.monotonic(), without=without)
        if address is None:
            return None
        future = self._lanes[address].submit(asked.item, asked.deadline)
        future.add_done_callback(self._routing.sent(address))
        asked.running[future] = address
        return address

    async def wait_for_servers(self, since: float, deadline: float | None = None) -> None:
        """Waits until servers are told that were not known.

        Raises:
            UnavailableError: none was for `reconnect` seconds, or until the deadline.
            ItemCancelledError: the fleet is closed.
        """
        until = since + self._reconnect
        left = (until if deadline is None else min(until, deadline)) - time.monotonic()
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), max(0.0, left))
        except asyncio.TimeoutError:
            told = f"the function that tells the servers named none for {time.monotonic() - since:.1f} s"
            raise errors.UnavailableError(told) from None
        if self._is_closed:
            raise errors.ItemCancelledError("the environment was closed")

    def judged(self, address: str, *, failed: bool) -> None:
        """Learns from an outcome."""
        if failed:
            self._routing.failed(address, time.monotonic())
        else:
            self._routing.answered(address)

    def patience_left(self, since: float) -> bool:
        """Whether an item that failed first at `since` is worth another attempt; with one server all were made already."""
        return self._is_choice and time.monotonic() - since < self._reconnect


class _Asked:
    """One item until its outcome, at one server or, hedged, at two."""

    def __init__(self, fleet: Fleet, item: Item, group: Hashable | None, deadline: float | None) -> None:
        self.item = item
        self.group = group
        self.deadline = deadline
        self.running: dict[asyncio.Future[Outcome], str] = {}
        self._fleet = fleet
        self._failed_since: float | None = None

    async def outcome(self) -> Outcome:
        """See `Fleet.score`."""
        avoid: list[str] = []
        is_hedged = False
        started = time.monotonic()
        try:
            while True:
                if not self.running and self._fleet.send(self, without=avoid) is None:
                    if not avoid:
                        await self._fleet.wait_for_servers(started, self.deadline)
                        continue
                    avoid.clear()  # every server has failed it; they are tried again, for as long as it is worth it
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                patience = None if is_hedged else self._fleet.hedge_after
                done, _ = await asyncio.wait(self.running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    self._fleet.send(self, without=list(self.running.values()))
                    is_hedged = True
                for future in done:
                    address = self.running.pop(future)
                    if (outcome := self._final(future, address)) is not None:
                        return outcome
                    avoid.append(address)
        finally:
            for future in self.running:
                future.cancel()

    def _final(self, future: asyncio.Future[Outcome], address: str) -> Outcome | None:
        """What came back, unless another server is to be asked."""
        if future.cancelled():
            raise errors.ItemCancelledError("the environment was closed")
        lost = future.exception()
        outcome: Outcome = lost if isinstance(lost, errors.RewardError) else future.result()
        is_failure = isinstance(outcome, _MOVES_ON)
        is_mute = isinstance(outcome, errors.DeadlineExceededError) and UNANSWERED_BY in outcome.metadata
        if is_failure or is_mute or not isinstance(outcome, errors.InternalError):
            self._fleet.judged(address, failed=is_failure or is_mute)
        if not is_failure:
            if isinstance(lost, errors.RewardError):
                raise lost
            return outcome
        now = time.monotonic()
        self._failed_since = now if self._failed_since is None else self._failed_since
        is_late = self.deadline is not None and now >= self.deadline
        if self.running or (self._fleet.patience_left(self._failed_since) and not is_late):
            return None
        if isinstance(lost, errors.RewardError):
            raise lost
        return outcome
