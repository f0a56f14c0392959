"""One served model: text threads, queue, and the loop that feeds its replica.

Everything here runs on the event loop; text and forward passes run on their own threads and come back as awaited results.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from rm_grpc import errors
from rm_grpc.types import (
    ControlTokens,
    ForeignMarkers,
    Item,
    ModelInfo,
    Score,
    ScoreOptions,
    Timing,
    Tokenization,
    TokenizeResult,
)
from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.engine.queue import TokenBudgetQueue
from rm_grpc_server.engine.replica import ThreadReplica
from rm_grpc_server.models.packed import pack
from rm_grpc_server.scoring.activation import activate
from rm_grpc_server.scoring.protocols import BatchScorer, Outcome, Verdict
from rm_grpc_server.text.encoding import Encoding
from rm_grpc_server.text.pipeline import Encoded, TextPipeline

_LOG = logging.getLogger(__name__)
_TEXT_CHUNK = 8
"""Items that one text job renders and encodes: enough to pay for the hop to the thread, few enough to spread."""


_STOPPED = errors.DrainingError("the server stopped before the item was scored", retry_delay=1.0)


@dataclass(frozen=True, slots=True)
class Reader:
    """How a model reads conversations: its text pipeline, and the positions that its scorer looks at."""

    text: TextPipeline
    scorer: BatchScorer


class ModelEngine:
    """Accepts items of one model and resolves each to exactly one outcome.

    Args:
        info: the model's description.
        reader: its text pipeline and scorer.
        replica: where batches are scored.
        text_threads: shared by all models.
        queue: bounded.
        max_batch_tokens: most tokens of a batch.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        info: ModelInfo,
        reader: Reader,
        replica: ThreadReplica,
        text_threads: Executor,
        queue: TokenBudgetQueue,
        max_batch_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.info = info
        self._reader = reader
        self._replica = replica
        self._text_threads = text_threads
        self._queue = queue
        self._max_batch_tokens = max_batch_tokens
        self._clock = clock
        self._work = asyncio.Event()
        self._in_text = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeder = asyncio.create_task(self._feed(), name=f"feed-{info.name}")

    def submit(self, items: Sequence[Item], options: ScoreOptions, *, timeout: float | None = None) -> list[Entry]:
        """Takes items in; each entry's future resolves to a score or an error, and never raises.

        Args:
            timeout: seconds that the whole call may take; an item's own timeout may be shorter.
        """
        loop, now = asyncio.get_running_loop(), self._clock()
        entries = [Entry(item, options, loop.create_future(), _deadline(now, item.timeout, timeout), now) for item in items]
        for entry in entries:
            self._watch(entry, now)
        room = max(0, self._queue.max_items - self._queue.items - self._in_text)
        for entry in entries[room:]:
            entry.resolve(errors.OverloadedError(f"{self._queue.max_items} items wait already", retry_delay=1.0))
        for start in range(0, min(room, len(entries)), _TEXT_CHUNK):
            chunk = entries[start : min(start + _TEXT_CHUNK, room)]
            self._in_text += len(chunk)
            task = asyncio.create_task(self._prepare(chunk, options))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return entries

    def _watch(self, entry: Entry, now: float) -> None:
        """Ends an entry at its deadline wherever it is, and takes it out of the queue when it is done."""
        if entry.deadline is not None:
            late = errors.DeadlineExceededError("the item's time ran out before it was scored")
            timer = asyncio.get_running_loop().call_later(max(0.0, entry.deadline - now), entry.resolve, late)
            entry.future.add_done_callback(lambda _: timer.cancel())
        entry.future.add_done_callback(lambda _: self._queue.discard(entry))

    async def tokenize(self, items: Sequence[Item], options: ScoreOptions) -> list[TokenizeResult]:
        """What the model would read for each item, and the error that scoring would give."""
        return await asyncio.get_running_loop().run_in_executor(self._text_threads, self._tokenize, items, options)

    async def close(self) -> None:
        """Ends the engine; whatever is still on its way gets an error."""
        self._feeder.cancel()
        _resolve_all(self._queue.take_all(), _STOPPED)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(self._feeder, *self._tasks, return_exceptions=True)
        self._replica.close()

    # --- text ---------------------------------------------------------------------------------------------------------

    async def _prepare(self, chunk: list[Entry], options: ScoreOptions) -> None:
        try:
            encoded = await asyncio.get_running_loop().run_in_executor(self._text_threads, self._encode, chunk, options)
            for entry, outcome in zip(chunk, encoded, strict=True):
                self._enqueue(entry, outcome)
        except asyncio.CancelledError:
            _resolve_all(chunk, _STOPPED)
            raise
        except BaseException as error:  # noqa: BLE001 - these items must have an outcome; panics of native code are no Exception
            _LOG.exception("the text pipeline of %s failed", self.info.name)
            _resolve_all(chunk, errors.InternalError(f"the text pipeline failed: {error!r}"))
        finally:
            self._in_text -= len(chunk)

    def _encode(self, chunk: list[Entry], options: ScoreOptions) -> list[Encoded]:
        started = self._clock()
        for entry in chunk:
            entry.text_started = started
        wanted = [None if entry.future.done() or entry.is_expired(started) else entry.item for entry in chunk]
        encoded = iter(self._encode_items([item for item in wanted if item is not None], options))
        late = errors.DeadlineExceededError("the item's time ran out before it was read")
        return [late if item is None else next(encoded) for item in wanted]

    def _encode_items(self, items: list[Item], options: ScoreOptions) -> list[Encoded]:
        """Encodes items together; where that fails, apart, so that only the one at fault is an error."""
        try:
            return self._reader.text.encode(items, options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours are to be scored
            if len(items) == 1:
                _LOG.exception("the text pipeline of %s failed on an item", self.info.name)
                return [errors.InternalError(f"the text pipeline failed on this item: {error!r}")]
            return [outcome for item in items for outcome in self._encode_items([item], options)]

    def _enqueue(self, entry: Entry, outcome: Encoded) -> None:
        if isinstance(outcome, errors.RewardError):
            entry.resolve(outcome)
            return
        if entry.future.done():
            return
        entry.encoding = outcome
        entry.queued = self._clock()
        try:
            self._queue.put(entry)
        except errors.OverloadedError as error:
            entry.resolve(error)
        else:
            self._work.set()

    def _tokenize(self, items: Sequence[Item], options: ScoreOptions) -> list[TokenizeResult]:
        outcomes = self._encode_items(list(items), options)
        lenient = ScoreOptions(ControlTokens.ALLOW, ForeignMarkers.ALLOW)
        return [
            TokenizeResult(
                id=item.id,
                tokenization=self._tokenization(
                    item, outcome if isinstance(outcome, Encoding) else self._encode_items([item], lenient)[0]
                ),
                error=outcome if isinstance(outcome, errors.RewardError) else None,
            )
            for item, outcome in zip(items, outcomes, strict=True)
        ]

    def _tokenization(self, item: Item, encoded: Encoded) -> Tokenization | None:
        if isinstance(encoded, errors.RewardError):
            return None
        text = self._reader.text
        return Tokenization(
            rendered_text=encoded.text,
            ids=tuple(encoded.ids.tolist()),
            bos_count=text.bos_count(encoded.ids),
            control_tokens_in_content=text.control_tokens_in(item),
            foreign_markers_in_content=text.foreign_markers_in(item),
            truncated=encoded.truncated,
            read_positions=self._reader.scorer.reads(encoded.ids),
        )

    # --- scoring ------------------------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._queue.items:
                await self._score(self._queue.take_batch(self._max_batch_tokens))

    async def _score(self, batch: list[Entry]) -> None:
        if not batch:
            return
        started = self._clock()
        try:
            ids = [entry.encoding.ids for entry in batch if entry.encoding is not None]
            packed = pack(ids, [self._reader.scorer.reads(one) for one in ids])
            outcomes = await self._replica.forward(packed)
            seconds = self._clock() - started
            for entry, outcome in zip(batch, outcomes, strict=True):
                entry.resolve(self._scored(entry, outcome, started, seconds))
        except asyncio.CancelledError:
            _resolve_all(batch, _STOPPED)
            raise
        except BaseException as error:  # noqa: BLE001 - these items must have an outcome, and the next ones a running engine
            _LOG.exception("a forward pass of %s failed", self.info.name)
            _resolve_all(batch, errors.ScorerFailedError(f"the forward pass failed: {error!r}"))

    def _scored(self, entry: Entry, outcome: Outcome, started: float, seconds: float) -> Score | errors.RewardError:
        if not isinstance(outcome, Verdict) or entry.encoding is None:
            return outcome if isinstance(outcome, errors.RewardError) else errors.InternalError("scored without an encoding")
        return Score(
            score=activate(outcome.raw_score, entry.options.activation),
            raw_score=outcome.raw_score,
            model_digest=self.info.model_digest,
            token_count=entry.tokens,
            activation=entry.options.activation,
            truncated=entry.encoding.truncated,
            attributes=outcome.attributes,
            steps=outcome.steps,
            timing=Timing(
                text_queue=entry.text_started - entry.accepted,
                render=entry.encoding.render_seconds,
                encode=entry.encoding.encode_seconds,
                queue=started - entry.queued,
                forward=seconds,
            ),
        )


def _resolve_all(entries: Iterable[Entry], error: errors.RewardError) -> None:
    for entry in entries:
        entry.resolve(error)


def _deadline(now: float, *timeouts: float | None) -> float | None:
    given = [timeout for timeout in timeouts if timeout is not None]
    return now + min(given) if given else None
