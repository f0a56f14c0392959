"""One served model: text threads, scheduler, and the replicas that score.

Everything here runs on the event loop; text runs on threads and forward passes in processes, and both come back as callbacks or
awaited results. An entry is always in one place: with the text threads, in the scheduler, in a replica's flight, or over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from rm_grpc import errors
from rm_grpc.types import Item, ModelInfo, ScoreOptions, TokenIds, TokenizeResult, Verdict
from rm_grpc_server.config import Normalization
from rm_grpc_server.engine.engine import STOPPED
from rm_grpc_server.engine.entry import Entry, Outcome
from rm_grpc_server.engine.homes import Homes
from rm_grpc_server.engine.messages import Stages
from rm_grpc_server.engine.parts import join, split
from rm_grpc_server.engine.pool import Place, Pool
from rm_grpc_server.engine.scheduler import Scheduler
from rm_grpc_server.engine.scores import Scoring
from rm_grpc_server.engine.text_threads import TextThreads
from rm_grpc_server.engine.trace import Trace
from rm_grpc_server.scoring.protocols import BatchOutcome
from rm_grpc_server.text.encoding import Encoded, Parts, Reader

_LOG = logging.getLogger(__name__)
_TEXT_CHUNK = 8
"""Items that one text job renders and encodes: enough to pay for the hop to the thread, few enough to spread."""
_MOST_CRASHES = 2
_SUSPECTS_REMEMBERED = 4096
_DOWN = errors.UnavailableError("no replica of the model is up; they are being started again", retry_delay=1.0)


class ModelEngine:
    """Accepts items of one model and resolves each to exactly one outcome.

    Args:
        info: the model's description.
        reader: its text side.
        pool: its replicas, started.
        text_threads: shared by all models; a job is some items of one stream.
        scheduler: empty.
        normalization: turns raw scores into scores.
        stores_prefixes: whether replicas keep prompts between batches, so that it matters which of them gets an item.
        max_bytes: most bytes of items that wait.
        recovery_seconds: how long accepted items wait for a replica when all are dead; new ones are refused meanwhile.
        trace: told of each batch.
        clock: monotonic seconds, the same as the replicas'.
    """

    def __init__(
        self,
        *,
        info: ModelInfo,
        reader: Reader,
        pool: Pool,
        text_threads: TextThreads,
        scheduler: Scheduler[Entry],
        stores_prefixes: bool = False,
        normalization: Normalization | None = None,
        max_bytes: int = 2**30,
        recovery_seconds: float = 20.0,
        trace: Trace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.info = info
        self.on_health: Callable[[bool], None] = lambda _: None
        """Told whenever the model becomes able or unable to score."""
        self._reader = reader
        self._pool = pool
        self._text_threads = text_threads
        self._scheduler = scheduler
        self._homes = Homes() if stores_prefixes and len(pool.places) > 1 else None
        self._scoring = Scoring(info.model_digest, normalization)
        self._max_bytes = max_bytes
        self._recovery_seconds = recovery_seconds
        self._giving_up: asyncio.TimerHandle | None = None
        self._trace = trace
        self._clock = clock
        self._in_text = 0
        self._bytes = 0
        self._open: set[Entry] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._suspects: OrderedDict[bytes, int] = OrderedDict()
        """How many replicas died on which ids, also when the items themselves are long over and were sent again."""
        self._retries: list[list[Entry]] = []
        """Halves of batches that failed."""
        self._apart: deque[Entry] = deque()
        """Entries that a replica died on: each has a replica to itself, so that the next death tells who is guilty."""
        self._tokens_per_second = 0.0
        self._tokens_per_item = 0.0
        self._was_healthy = True
        self._is_closed = False
        pool.work_for(self)

    @property
    def is_healthy(self) -> bool:
        """Whether a replica is up."""
        return self._pool.alive > 0

    @property
    def fill(self) -> float:
        """How full the queue is, from 0 to 1."""
        waiting = min(1.0, self._waiting / self._scheduler.bounds.items)
        return max(self._scheduler.fill, self._bytes / self._max_bytes, waiting)

    @property
    def _waiting(self) -> int:
        """Items that are not yet in a batch."""
        return self._scheduler.items + self._in_text

    def submit(
        self,
        items: Sequence[Item],
        options: ScoreOptions,
        *,
        timeout: float | None = None,
        stream: Hashable = None,
        sizes: Sequence[int] = (),
    ) -> list[Entry]:
        """See `Engine`."""
        now = self._clock()
        entries = [
            Entry(item, options, _deadline(now, item.timeout, timeout), now, stream, size)
            for item, size in zip(items, sizes or [0] * len(items), strict=True)
        ]
        if (refusal := self._refusal()) is not None:
            _resolve_all(entries, refusal)
            return entries
        accepted = [entry for entry in entries if self._accept(entry, now)]
        if all(isinstance(entry.item.input, TokenIds) for entry in accepted):
            self._take_encoded(accepted, options)  # nothing to render or encode: a thread would cost more than it saves
            return entries
        for start in range(0, len(accepted), _TEXT_CHUNK):
            chunk = accepted[start : start + _TEXT_CHUNK]
            task = asyncio.create_task(self._prepare(chunk, options))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return entries

    def _refusal(self) -> errors.RewardError | None:
        """Why nothing is taken at all."""
        if self._is_closed:
            return STOPPED
        return None if self.is_healthy else _DOWN

    def _accept(self, entry: Entry, now: float) -> bool:
        """Takes an entry in, or gives it the error for which it cannot be."""
        if self._waiting >= self._scheduler.bounds.items or (self._bytes and self._bytes + entry.size > self._max_bytes):
            told = f"{self._waiting} items of {self._bytes} bytes wait already"
            entry.resolve(errors.OverloadedError(told, retry_delay=self._retry_delay()))
            return False
        self._in_text += 1
        self._bytes += entry.size
        self._open.add(entry)
        entry.watch(self._over)
        if entry.deadline is not None:
            timer = asyncio.get_running_loop().call_later(max(0.0, entry.deadline - now), _expire, entry)
            entry.watch(lambda *_: timer.cancel())
        return True

    def _over(self, entry: Entry, outcome: Outcome) -> None:
        del outcome
        self._bytes -= entry.size
        if entry.encoding is None:  # it may stand before the text threads for long yet, and must not hold what is not counted
            entry.item = replace(entry.item, input=None, metadata={})
        self._open.discard(entry)
        self._scheduler.discard(entry)

    def _retry_delay(self) -> float:
        """Seconds in which about half of what waits is scored, as far as that can be told."""
        if not self._tokens_per_second:
            return 1.0
        tokens = self._scheduler.tokens + self._in_text * self._tokens_per_item
        return min(30.0, max(0.05, 0.5 * tokens / self._tokens_per_second))

    async def tokenize(self, items: Sequence[Item], options: ScoreOptions) -> list[TokenizeResult]:
        """See `Engine`."""
        return await self._text_threads.run(object(), self._tokenize, items, options)

    async def close(self) -> None:
        """Ends the engine and its replicas; whatever is still on its way gets an error."""
        self._is_closed = True
        _resolve_all(list(self._open), STOPPED)
        for timer in (self._timer, self._giving_up):
            if timer is not None:
                timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for place in self._pool.places:
            _LOG.info(
                "%s: replica %d computed %.1f s, and was idle for %.2f s while work waited",
                *(self.info.name, place.number, place.busy_seconds, place.idle_seconds),
            )
        await self._pool.close()

    # --- text ---------------------------------------------------------------------------------------------------------

    def _take_encoded(self, entries: list[Entry], options: ScoreOptions) -> None:
        for entry, outcome in zip(entries, self._encode(entries, options), strict=True):
            self._enqueue(entry, outcome)
        self._in_text -= len(entries)
        self._dispatch()

    async def _prepare(self, chunk: list[Entry], options: ScoreOptions) -> None:
        try:
            encoded = await self._text_threads.run(chunk[0].stream, self._encode, chunk, options)
            for entry, outcome in zip(chunk, encoded, strict=True):
                self._enqueue(entry, outcome)
        except asyncio.CancelledError:
            _resolve_all(chunk, STOPPED)
            raise
        except BaseException as error:  # noqa: BLE001 - these items must have an outcome; panics of native code are no Exception
            _LOG.exception("the text pipeline of %s failed", self.info.name)
            _resolve_all(chunk, _text_failed(error))
        finally:
            self._in_text -= len(chunk)
        self._dispatch()

    def _encode(self, chunk: list[Entry], options: ScoreOptions) -> list[Encoded]:
        started = self._clock()
        for entry in chunk:
            entry.text_started = started
        wanted = [None if entry.is_over(started) else entry.item for entry in chunk]
        encoded = iter(self._encode_items([item for item in wanted if item is not None], options))
        late = errors.DeadlineExceededError("the item's time ran out before it was read")
        return [late if item is None else next(encoded) for item in wanted]

    def _encode_items(self, items: list[Item], options: ScoreOptions) -> list[Encoded]:
        """Encodes items together; where that fails, apart, so that only the one at fault is an error."""
        try:
            return self._reader.encode(items, options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours are to be scored
            if len(items) == 1:
                _LOG.exception("the text pipeline of %s failed on an item", self.info.name)
                return [_text_failed(error)]
            return [outcome for item in items for outcome in self._encode_items([item], options)]

    def _enqueue(self, entry: Entry, outcome: Encoded) -> None:
        if isinstance(outcome, errors.RewardError):
            entry.resolve(outcome)
            return
        if entry.outcome is not None:
            return
        if isinstance(outcome, Parts):
            self._enqueue_parts(entry, outcome)
            return
        entry.encoding = outcome
        entry.queued = self._clock()
        entry.crashes = self._suspects.get(outcome.ids.tobytes(), 0) if self._suspects else 0
        if entry.crashes >= _MOST_CRASHES:
            entry.resolve(_quarantined(entry.crashes))
        elif entry.crashes:
            self._apart.append(entry)
        else:
            try:
                self._scheduler.put(entry, retry_delay=self._retry_delay)
            except errors.OverloadedError as error:
                entry.resolve(error)

    def _enqueue_parts(self, entry: Entry, parts: Parts) -> None:
        children = split(entry, len(parts.encodings))
        join(entry, children, lambda scores: self._scoring.together(entry.options, scores, parts.combine))
        for child, encoding in zip(children, parts.encodings, strict=True):
            child.watch(lambda over, _: self._scheduler.discard(over))
            self._enqueue(child, encoding)

    def _tokenize(self, items: Sequence[Item], options: ScoreOptions) -> list[TokenizeResult]:
        return [self._tokenize_one(item, options) for item in items]

    def _tokenize_one(self, item: Item, options: ScoreOptions) -> TokenizeResult:
        try:
            return self._reader.tokenize(item, options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours are to be answered
            _LOG.exception("the text pipeline of %s failed on an item", self.info.name)
            return TokenizeResult(item.id, None, _text_failed(error))

    # --- scoring ------------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Gives batches to replicas that have room, for as long as there are any."""
        try:
            self._send_batches()
        except Exception as error:  # noqa: BLE001 - nothing else would answer what waits
            _LOG.exception("batches of %s cannot be formed", self.info.name)
            _resolve_all(list(self._open), errors.InternalError(f"the scheduler failed: {error!r}"))

    def _send_batches(self) -> None:
        while (place := self._pool.place_with_room()) is not None:
            if self._has_suspect():
                if not place.is_idle:
                    return  # nothing more is sent ahead until one is, which `changed` tells
                self._send(place, [self._apart.popleft()], alone=True)
                continue
            batch = self._next_batch(place)
            if not batch:
                break
            if self._homes is not None:
                self._homes.settle(batch, place.number)
            self._send(place, batch)
        wake = self._scheduler.wake_at()
        if place is not None and wake is not None and self._timer is None:
            delay = max(0.001, wake - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _send(self, place: Place, batch: list[Entry], *, alone: bool = False) -> None:
        try:
            self._pool.send(place, batch, alone=alone)
        except Exception as error:  # noqa: BLE001 - of this batch alone, and perhaps of one of its items
            _LOG.exception("a batch of %s cannot be sent", self.info.name)
            self.failed(batch, f"it cannot be sent to a replica: {error!r}", out_of_memory=False)

    def _has_suspect(self) -> bool:
        """Whether somebody waits to be tried apart."""
        while self._apart and self._apart[0].outcome is not None:
            self._apart.popleft()
        return bool(self._apart)

    def _next_batch(self, place: Place) -> list[Entry]:
        while self._retries:
            if batch := [entry for entry in self._retries.pop() if entry.outcome is None]:
                return batch
        prefers = self._homes.of(place.number) if self._homes is not None else None
        return self._scheduler.take(self._clock(), is_idle=place.is_idle, prefers=prefers)

    def _wake(self) -> None:
        self._timer = None
        self._dispatch()

    def scored(self, entries: Sequence[Entry], result: BatchOutcome, stages: Stages) -> None:
        """See `Employer`."""
        try:
            for entry, outcome, shared in zip(entries, result.outcomes, result.shared_tokens, strict=True):
                if entry.crashes:
                    self._suspects.pop(entry.ids.tobytes(), None)
                if isinstance(outcome, Verdict):
                    entry.resolve(self._scoring.of(entry, outcome, shared, stages))
                else:
                    entry.resolve(outcome)
        except Exception as error:  # noqa: BLE001 - these items must have an outcome
            _LOG.exception("the outcomes of a batch of %s cannot be used", self.info.name)
            _resolve_all(entries, errors.InternalError(f"the outcome cannot be used: {error!r}"))
        tokens = sum(len(entry.ids) for entry in entries)
        self._tokens_per_second = _smoothed(self._tokens_per_second, tokens / max(1e-6, stages.ended - stages.started))
        self._tokens_per_item = _smoothed(self._tokens_per_item, tokens / len(entries))
        if self._trace is not None:
            try:
                self._trace.batch(self.info.name, entries, result, stages)
            except OSError:
                _LOG.exception("the trace ends here")
                self._trace = None

    def failed(self, entries: Sequence[Entry], message: str, *, out_of_memory: bool) -> None:
        """See `Employer`. A batch is split and tried again, until the entry at fault is alone."""
        if len(entries) == 1:
            told = f"the device has not enough memory for {len(entries[0].ids)} tokens: {message}" if out_of_memory else message
            entries[0].resolve(errors.ScorerFailedError(f"scoring failed: {told}"))
            return
        _LOG.warning("%s: a batch of %d is split after a failure: %s", self.info.name, len(entries), message)
        waiting = [entry for entry in entries if entry.outcome is None]
        half = (len(waiting) + 1) // 2
        self._retries += [part for part in (waiting[:half], waiting[half:]) if part]

    def lost(self, suspects: Sequence[Entry], others: Sequence[Entry]) -> None:
        """See `Employer`. Suspects are tried again alone; one that is there when a second replica dies is not tried again."""
        for entry in suspects:
            key = entry.ids.tobytes()
            self._suspects[key] = entry.crashes = self._suspects.pop(key, 0) + 1
            if len(self._suspects) > _SUSPECTS_REMEMBERED:
                self._suspects.popitem(last=False)
            if entry.crashes >= _MOST_CRASHES:
                entry.resolve(_quarantined(entry.crashes))
            else:
                self._apart.append(entry)
        self._scheduler.put_back([entry for entry in others if entry.outcome is None])

    def changed(self) -> None:
        """See `Employer`."""
        if self.is_healthy != self._was_healthy:
            self._was_healthy = self.is_healthy
            self.on_health(self.is_healthy)
            if self._giving_up is not None:
                self._giving_up.cancel()
            if not self.is_healthy:
                self._giving_up = asyncio.get_running_loop().call_later(self._recovery_seconds, self._give_up)
        self._dispatch()

    def _give_up(self) -> None:
        if not self.is_healthy:
            _resolve_all(list(self._open), _DOWN)


def _smoothed(before: float, now: float) -> float:
    return 0.9 * before + 0.1 * now if before else now


def _text_failed(error: BaseException) -> errors.InternalError:
    return errors.InternalError(f"the text pipeline failed on this item: {error!r}")


def _quarantined(crashes: int) -> errors.QuarantinedError:
    return errors.QuarantinedError(f"{crashes} replicas died while they computed this item, and it is not tried again")


def _expire(entry: Entry) -> None:
    entry.resolve(errors.DeadlineExceededError("the item's time ran out before it was scored"))


def _resolve_all(entries: Iterable[Entry], error: errors.RewardError) -> None:
    for entry in entries:
        entry.resolve(error)


def _deadline(now: float, *timeouts: float | None) -> float | None:
    given = [timeout for timeout in timeouts if timeout is not None]
    return now + min(given) if given else None
