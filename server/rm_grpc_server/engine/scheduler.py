"""Which items are scored next, and together. Pure: it is told the time, and does no I/O.

A batch begins with a seed: the oldest item of the stream that was served least, or the oldest of all once that has waited for
`max_age` (up to half of a batch, so that streams keep their turns under overload). Beside it come those that wait and share
its beginning (the other answers to its prompt), then the next seed, until the token budget is full. What is counted are the
tokens that the batch will compute, each shared prefix once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, nsmallest
from typing import Generic, Protocol, TypeAlias, TypeVar

from rm_grpc.errors import OverloadedError
from rm_grpc_server.models.packed import MIN_SHARED_TOKENS, FixedShape
from rm_grpc_server.models.prefixes import IdArray, common_prefix, sort_key

SIBLING_TOKENS = 32
"""Fewest tokens in common that make two items of one stream belong together."""

_SHARED_BYTES = 4 * MIN_SHARED_TOKENS
"""Sort keys that differ in these share nothing that is worth sharing; seen faster than counted."""
_MOST_LOOKS = 2048
"""How many items and streams are looked at for one batch, so that nobody waits long for it to be formed."""
_MOST_REACH = 8
"""Most tokens of a batch's conversations together, as a multiple of its budget: each reads the keys of its whole path."""
_MOST_TURNS = 32
"""How many streams are looked at for one whose next item the device prefers."""


class Waiting(Protocol):
    """What waits: an encoded item."""

    queued: float

    @property
    def ids(self) -> IdArray:
        """Its token ids."""

    @property
    def stream(self) -> Hashable:
        """Whose it is."""

    @property
    def group(self) -> str:
        """What it belongs together with, or empty."""

    def is_over(self, now: float) -> bool:
        """Whether nobody waits for it any more: it was taken back, or its time ran out."""


W = TypeVar("W", bound=Waiting)


@dataclass(frozen=True, slots=True)
class BatchShape:
    """What a batch may hold.

    Attributes:
        max_tokens: most tokens that it computes; an item that alone has more is a batch of its own.
        fill_tokens: up to where it is filled with items that have nothing in common. Past it only siblings of what is in join:
            on a CPU a longer row is no faster, and a shared prefix is worth it all the same.
        share: whether equal beginnings are computed once.
        fixed: whether every batch is filled up to one of few shapes, so that a score's bits do not depend on what it is batched
            with (deterministic mode). An item then belongs to the class of shapes that fits its own length.
    """

    max_tokens: int
    fill_tokens: int
    share: bool = True
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may wait at most."""

    items: int
    tokens: int


_Place: TypeAlias = tuple[bytes, int, W]
"""Where an item stands among those that wait, by its ids: their sort key, and a number of its own, so that items themselves are
never compared."""


@dataclass(slots=True, eq=False)
class _Stream(Generic[W]):
    """Those of one stream that wait, first come first; `served` counts tokens since it began to wait."""

    served: float
    waiting: OrderedDict[W, None] = field(default_factory=OrderedDict)


class Scheduler(Generic[W]):
    """Items that wait for a forward pass, and the batches that they become.

    Args:
        shape: what a batch may hold.
        bounds: what may wait at most.
        max_wait: seconds that a batch which is not full waits for more items while the device is busy anyway.
        max_age: seconds after which an item goes before all younger ones, whosever they are.

    Attributes:
        tokens: what waits, each item in full.
    """

    def __init__(self, *, shape: BatchShape, bounds: Bounds, max_wait: float = 0.004, max_age: float = 5.0) -> None:
        self.shape = shape
        self.bounds = bounds
        self.tokens = 0
        self._max_wait = max_wait
        self._max_age = max_age
        self._streams: dict[Hashable, _Stream[W]] = {}
        self._turns: list[tuple[float, int, _Stream[W]]] = []
        """A heap of streams by what they were served; entries that are out of date are dropped when they come up."""
        self._by_age: OrderedDict[W, None] = OrderedDict()
        self._by_ids: list[_Place[W]] = []
        self._place: dict[W, _Place[W]] = {}
        self._count = 0
        self._now_served = 0.0
        self._looks = 0

    @property
    def items(self) -> int:
        """How many wait."""
        return len(self._by_age)

    @property
    def fill(self) -> float:
        """How full the queue is, from 0 to 1: the fuller of items and tokens."""
        return min(1.0, max(self.items / self.bounds.items, self.tokens / self.bounds.tokens))

    def put(self, entry: W, *, retry_delay: Callable[[], float] = lambda: 1.0) -> None:
        """Takes an encoded item.

        Raises:
            OverloadedError: the queue is full; it tells what `retry_delay` gives.
        """
        length = len(entry.ids)
        if self.items >= self.bounds.items or (self.items and self.tokens + length > self.bounds.tokens):
            raise OverloadedError(f"{self.items} items of {self.tokens} tokens wait already", retry_delay=retry_delay())
        self._put(entry)

    def put_back(self, entries: Sequence[W]) -> None:
        """Takes items that were in a batch already, in their order and before all others, also where the queue is full."""
        for entry in reversed(entries):
            self._put(entry)
            self._by_age.move_to_end(entry, last=False)
            self._streams[entry.stream].waiting.move_to_end(entry, last=False)

    def _put(self, entry: W) -> None:
        stream = self._streams.get(entry.stream)
        self._count += 1
        if stream is None:
            stream = self._streams[entry.stream] = _Stream(self._now_served)
            heappush(self._turns, (stream.served, self._count, stream))
        stream.waiting[entry] = None
        self._by_age[entry] = None
        place = self._place[entry] = (sort_key(entry.ids), self._count, entry)
        insort(self._by_ids, place)
        self.tokens += len(entry.ids)

    def discard(self, entry: W) -> None:
        """Takes an item out, if it waits here."""
        place = self._place.pop(entry, None)
        if place is None:
            return
        del self._by_ids[bisect_left(self._by_ids, place)]
        del self._by_age[entry]
        stream = self._streams[entry.stream]
        del stream.waiting[entry]
        if not stream.waiting:
            del self._streams[entry.stream]
        if len(self._turns) > 64 + 2 * len(self._streams):
            self._turns = [turn for turn in self._turns if turn[2].waiting and turn[2].served == turn[0]]
            heapify(self._turns)
        self.tokens -= len(entry.ids)

    def take_all(self) -> list[W]:
        """Everything that waits."""
        entries = list(self._by_age)
        for entry in entries:
            self.discard(entry)
        return entries

    def wake_at(self) -> float | None:
        """When `take` may have a batch that it held back, or None where nothing waits."""
        oldest = next(iter(self._by_age), None)
        return None if oldest is None else oldest.queued + self._max_wait

    def take(self, now: float, *, is_idle: bool, prefers: Callable[[W], bool] | None = None) -> list[W]:
        """The next batch, or nothing yet.

        Args:
            now: the time, on the clock of `queued`.
            is_idle: whether the device has nothing to do; then a batch is not held back.
            prefers: whether this device is the best for an item. Among the streams that were served least one whose next item
                it prefers comes first.
        """
        if not self.items:
            return []
        oldest = next(iter(self._by_age))
        if not is_idle and self.tokens < self.shape.fill_tokens and now - oldest.queued < self._max_wait:
            return []
        batch = _Batch(self.shape, self._place)
        self._looks = _MOST_LOOKS
        while (seed := self._seed(now, prefers, may_be_aged=not batch.is_half_filled)) is not None:
            if seed.is_over(now):
                self.discard(seed)
                continue
            siblings = self._siblings(seed, now) if self.shape.share else []
            if batch.is_begun and not batch.takes(seed, siblings):
                break
            self._move(seed, batch)
            for sibling in siblings:
                if not batch.fits(sibling):
                    break
                self._move(sibling, batch)
        return batch.entries

    def _move(self, entry: W, batch: _Batch[W]) -> None:
        stream = self._streams[entry.stream]
        stream.served += batch.add(entry)
        self._count += 1
        heappush(self._turns, (stream.served, self._count, stream))
        self.discard(entry)

    def _seed(self, now: float, prefers: Callable[[W], bool] | None, *, may_be_aged: bool) -> W | None:
        """What comes next. Half of a batch may be the oldest of all; were it the whole, streams had no turns under
        overload.
        """
        oldest = next(iter(self._by_age), None)
        if oldest is None:
            return None
        if may_be_aged and now - oldest.queued >= self._max_age:
            return oldest
        while True:
            served, _, stream = self._turns[0]
            if stream.waiting and stream.served == served:
                break
            heappop(self._turns)
        self._now_served = max(self._now_served, served)
        first = next(iter(stream.waiting))
        if prefers is None or prefers(first) or self._looks <= 0:
            return first
        self._looks -= _MOST_TURNS
        turns = nsmallest(_MOST_TURNS, self._turns)
        heads = (next(iter(other.waiting)) for served, _, other in turns if other.waiting and other.served == served)
        return next((head for head in heads if prefers(head)), first)

    def _siblings(self, seed: W, now: float) -> list[W]:
        """Those that wait and begin as the seed does, the most alike first."""
        at = bisect_left(self._by_ids, self._place[seed])
        before, after = at - 1, at + 1
        shared_before, shared_after = self._shared(seed, before), self._shared(seed, after)
        found: list[W] = []
        room = self.shape.max_tokens
        while room > 0 and self._looks > 0 and max(shared_before, shared_after) >= SIBLING_TOKENS:
            self._looks -= 1
            if shared_before >= shared_after:
                other, shared = self._by_ids[before][2], shared_before
                before -= 1
                shared_before = self._shared(seed, before)
            else:
                other, shared = self._by_ids[after][2], shared_after
                after += 1
                shared_after = self._shared(seed, after)
            same_group = bool(seed.group) and seed.group == other.group
            if not other.is_over(now) and (other.stream == seed.stream or same_group or 2 * shared >= len(seed.ids)):
                found.append(other)
                room -= max(1, len(other.ids) - shared)
        return found

    def _shared(self, seed: W, at: int) -> int:
        """Tokens that a seed has in common with what waits at a place; 0 where that does not even begin as siblings do."""
        if not 0 <= at < len(self._by_ids):
            return -1
        key, _, other = self._by_ids[at]
        begin = self._place[seed][0][: 4 * SIBLING_TOKENS]
        return common_prefix(seed.ids, other.ids) if key.startswith(begin) else 0


class _Batch(Generic[W]):
    """A batch in the making, with the tokens that it will compute at most; `places` has the sort key of what waits."""

    def __init__(self, shape: BatchShape, places: Mapping[W, _Place[W]]) -> None:
        self.entries: list[W] = []
        self._shape = shape
        self._places = places
        self._budget = shape.max_tokens
        self._tokens = 0
        self._reach = 0
        self._keys: list[bytes] = []
        self._ids: list[IdArray] = []
        self._costs: dict[W, int] = {}
        """Of those that were asked about since the batch last grew."""

    @property
    def is_begun(self) -> bool:
        """Whether it holds anything."""
        return bool(self.entries)

    @property
    def is_half_filled(self) -> bool:
        """Whether half of what it is filled up to is there."""
        return 2 * self._tokens >= self._shape.fill_tokens

    def takes(self, seed: W, siblings: Sequence[W]) -> bool:
        """Whether the seed fits, and its siblings with it unless they would leave the batch half empty."""
        if self._tokens + self._cost(seed) > self._shape.fill_tokens or not self.fits(seed):
            return False
        if not siblings or not self.is_half_filled:
            return True
        together = self._cost(seed) + sum(len(one.ids) - common_prefix(one.ids, seed.ids) for one in siblings)
        return self._tokens + together <= self._budget

    def fits(self, entry: W) -> bool:
        """Whether it may join."""
        if not self.entries:
            return True
        if self._shape.fixed:
            shape = FixedShape.of(len(entry.ids), self._shape.fill_tokens)
            if shape.room != self._budget or len(self.entries) >= shape.reads:
                return False
        if self._reach + len(entry.ids) > _MOST_REACH * self._budget:
            return False
        return self._tokens + self._cost(entry) <= self._budget

    def add(self, entry: W) -> int:
        """Takes it in; the tokens that it adds."""
        cost = self._cost(entry)
        if not self.entries:
            shape = self._shape
            self._budget = FixedShape.of(len(entry.ids), shape.fill_tokens).room if shape.fixed else shape.max_tokens
        self.entries.append(entry)
        if self._shape.share:
            key = self._places[entry][0]
            at = bisect_left(self._keys, key)
            self._keys.insert(at, key)
            self._ids.insert(at, entry.ids)
        self._costs.clear()
        self._tokens += cost
        self._reach += len(entry.ids)
        return cost

    def _cost(self, entry: W) -> int:
        """Tokens that are not shared with what is in already.

        The packer leaves fewer than `MIN_SHARED_TOKENS` of what could be shared unshared, so that counting that many as
        unshared never counts too few.
        """
        if not self._shape.share:
            return len(entry.ids)
        cost = self._costs.get(entry)
        if cost is None:
            cost = self._costs[entry] = self._counted(entry)
        return cost

    def _counted(self, entry: W) -> int:
        key = self._places[entry][0]
        at = bisect_left(self._keys, key)
        if at < len(self._keys) and self._keys[at] == key:
            return 1  # it costs nothing to compute, and no batch is without bound
        begin, shared = key[:_SHARED_BYTES], 0
        for near in (at - 1, at):
            if 0 <= near < len(self._keys) and self._keys[near].startswith(begin):
                shared = max(shared, common_prefix(entry.ids, self._ids[near]))
        return len(entry.ids) - max(0, shared - MIN_SHARED_TOKENS + 1)
