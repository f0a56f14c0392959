"""One ScoreBatch stream: a reader that accepts items, and one writer that sends what is ready.

A client's death looks like its half-close, so that the end of its messages proves nothing: whatever is in flight when the call
ends is taken back from the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from rm_grpc import convert, errors
from rm_grpc.types import Item, Limits, ScoreOptions
from rm_grpc.v1 import conversation_pb2, reward_service_pb2, score_pb2
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.engine.entry import Entry, Outcome
from rm_grpc_server.transport.admission import admit, find_engine
from rm_grpc_server.transport.drain import Drain

_LOG = logging.getLogger(__name__)
_MOST_RESULTS_PER_MESSAGE = 256
_RESULT_BYTES = 500_000
"""About how large a message of results becomes: ids are the caller's and may be long, and steps may be many."""
_ROOMY = 0.5
"""How full the engine's queue may be for a window to grow again."""
_COMPLETION = (reward_service_pb2.ORDERING_UNSPECIFIED, reward_service_pb2.ORDERING_COMPLETION)


@dataclass(slots=True, eq=False)
class _Flight:
    """An item of the stream until its result is written."""

    id: str
    bytes: int
    outcome: Outcome | None = None
    entry: Entry | None = None


class ScoreStream:
    """The server's side of one stream.

    Args:
        engines: by model name.
        limits: window of the stream.
        drain: whether the server is going down.
        write: sends a message, waiting while the client does not read.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        limits: Limits,
        drain: Drain,
        write: Callable[[reward_service_pb2.ScoreBatchResponse], Awaitable[None]],
    ) -> None:
        self._engines = engines
        self._limits = limits
        self._drain = drain
        self._write = write
        self._window = limits.window_items
        """Most items in flight now: halved when the engine is full, and doubled again when it has room."""
        self._told_window = self._window
        self._in_flight: dict[str, _Flight] = {}
        self._in_flight_bytes = 0
        self._order: deque[_Flight] = deque()
        """Under submission order: items whose turn has not come."""
        self._ready: deque[_Flight] = deque()
        self._unwritten = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self, requests: AsyncIterator[reward_service_pb2.ScoreBatchRequest]) -> None:
        """Serves the stream to its end.

        Raises:
            RewardError: that the stream ends with, for a breach of its protocol or a server that goes down.
        """
        first = await self._first(requests)
        if first is None or first.WhichOneof("message") != "open":
            raise errors.StreamProtocolError("the first message of a stream must open it", field="open")
        await self._open(first.open)
        reader = asyncio.create_task(self._read(requests))
        reader.add_done_callback(lambda _: self._wake.set())
        herald = asyncio.create_task(self._wake_at_drain())
        try:
            await self._write_results(reader)
        finally:
            for task in (reader, herald):
                task.cancel()
            for flight in self._in_flight.values():
                if flight.entry is not None:
                    flight.entry.resolve(errors.ItemCancelledError("the stream ended"))
            await asyncio.gather(reader, herald, return_exceptions=True)

    async def _first(
        self, requests: AsyncIterator[reward_service_pb2.ScoreBatchRequest]
    ) -> reward_service_pb2.ScoreBatchRequest | None:
        """The first message; a stream that never sends one does not hold up a drain."""
        first = asyncio.ensure_future(anext(requests, None))
        drain = asyncio.ensure_future(self._drain.wait())
        try:
            await asyncio.wait([first, drain], return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                raise self._drain.refusal()
            return first.result()
        finally:
            first.cancel()
            drain.cancel()

    async def _open(self, opening: reward_service_pb2.OpenStream) -> None:
        self._engine = find_engine(self._engines, opening.model)
        self._options: ScoreOptions = convert.options_from_proto(opening.options)
        if opening.ordering not in (*_COMPLETION, reward_service_pb2.ORDERING_SUBMISSION):
            raise errors.InvalidRequestError(f"this server does not know the value {opening.ordering}", field="open.ordering")
        if opening.max_results_per_message < 0:
            raise errors.InvalidRequestError("must not be negative", field="open.max_results_per_message")
        self._in_order = opening.ordering == reward_service_pb2.ORDERING_SUBMISSION
        self._most_results = opening.max_results_per_message or _MOST_RESULTS_PER_MESSAGE
        if self._drain.begun:
            raise self._drain.refusal()
        opened = reward_service_pb2.StreamOpened(
            model=convert.model_info_to_proto(self._engine.info),
            window=reward_service_pb2.Window(items=self._limits.window_items, bytes=self._limits.window_bytes),
        )
        await self._write(reward_service_pb2.ScoreBatchResponse(opened=opened))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self, requests: AsyncIterator[reward_service_pb2.ScoreBatchRequest]) -> None:
        async for request in requests:
            kind = request.WhichOneof("message")
            if kind == "items":
                self._accept(request.items)
            elif kind == "cancel":
                self._cancel(request.cancel)
            else:
                told = "a stream is opened once" if kind == "open" else "a message of no kind that this server knows"
                raise errors.StreamProtocolError(told, field="message")
            # Refused items cost nothing but their answers; a client that does not read those is not read either.
            while self._unwritten > 2 * self._limits.window_items:
                self._room.clear()
                await self._room.wait()

    def _accept(self, message: reward_service_pb2.Items) -> None:
        if len(message.items) > self._limits.window_items:
            raise errors.StreamProtocolError(
                f"{len(message.items)} items in one message, and the window is {self._limits.window_items}", field="items"
            )
        accepted: list[_Flight] = []
        items: list[Item] = []
        for proto in message.items:
            flight = _Flight(proto.id, proto.ByteSize())
            self._unwritten += 1
            if self._in_order:
                self._order.append(flight)
            try:
                items.append(self._admitted(proto, flight))
            except errors.RewardError as error:
                self._finish(flight, error)
            except Exception as error:  # noqa: BLE001 - one item never ends the stream
                _LOG.exception("an item cannot be read")
                self._finish(flight, errors.InternalError(f"cannot be read: {error!r}"))
            else:
                accepted.append(flight)
        sizes = [flight.bytes for flight in accepted]
        for flight, entry in zip(accepted, self._engine.submit(items, self._options, stream=self, sizes=sizes), strict=True):
            flight.entry = entry
            entry.watch(partial(self._answer, flight))

    def _admitted(self, proto: conversation_pb2.Item, flight: _Flight) -> Item:
        if self._drain.begun:
            raise self._drain.refusal()
        item = admit(proto, self._in_flight)
        over = self._in_flight_bytes + flight.bytes > self._limits.window_bytes and self._in_flight
        if len(self._in_flight) >= self._window or over:
            raise errors.WindowExceededError(
                f"{len(self._in_flight)} items of {self._in_flight_bytes} bytes are in flight, and the window is "
                f"{self._window} items of {self._limits.window_bytes} bytes",
                retry_delay=0.2,
            )
        self._in_flight[flight.id] = flight
        self._in_flight_bytes += flight.bytes
        return item

    def _cancel(self, message: reward_service_pb2.CancelItems) -> None:
        for item_id in message.ids:
            flight = self._in_flight.get(item_id)
            if flight is not None and flight.entry is not None:
                flight.entry.resolve(errors.ItemCancelledError("taken back by the client"))

    # --- writing ------------------------------------------------------------------------------------------------------

    def _answer(self, flight: _Flight, entry: Entry, outcome: Outcome) -> None:
        del entry
        if isinstance(outcome, errors.OverloadedError):
            self._window = max(1, min(self._window, len(self._in_flight)) // 2)
        elif self._window < self._limits.window_items and self._engine.fill < _ROOMY:
            self._window = min(self._limits.window_items, 2 * self._window)
        self._finish(flight, outcome)

    def _finish(self, flight: _Flight, outcome: Outcome) -> None:
        flight.outcome = outcome
        if not self._in_order:
            self._ready.append(flight)
        while self._order and self._order[0].outcome is not None:
            self._ready.append(self._order.popleft())
        self._wake.set()

    async def _write_results(self, reader: asyncio.Task[None]) -> None:
        """The only writer of the stream: grpc takes one message at a time."""
        told_of_drain = False
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._drain.begun and not told_of_drain:
                told_of_drain = True
                draining = reward_service_pb2.Draining(reason="the server is going down")
                await self._write(reward_service_pb2.ScoreBatchResponse(draining=draining))
            while self._ready:
                if self._window != self._told_window:
                    await self._tell_window()
                response = self._next_results()
                await self._write(response)
                self._unwritten -= len(response.results.results)
                self._room.set()
            if reader.done():
                reader.result()  # raises what the reader met
                if not self._unwritten:
                    return
            elif told_of_drain and not self._unwritten:
                raise self._drain.refusal()

    def _land(self, flight: _Flight) -> None:
        """Makes room before the result is written: a quick client has sent the next item before the write returns."""
        if self._in_flight.get(flight.id) is flight:
            del self._in_flight[flight.id]
            self._in_flight_bytes -= flight.bytes

    async def _tell_window(self) -> None:
        self._told_window = self._window
        window = reward_service_pb2.Window(items=self._window, bytes=self._limits.window_bytes)
        await self._write(reward_service_pb2.ScoreBatchResponse(window=window))

    def _next_results(self) -> reward_service_pb2.ScoreBatchResponse:
        """As many ready items as one message takes."""
        response = reward_service_pb2.ScoreBatchResponse()
        results, size = response.results.results, 0
        while self._ready and len(results) < self._most_results and size < _RESULT_BYTES:
            flight = self._ready.popleft()
            self._land(flight)
            result = results.add()
            self._fill(result, flight)
            size += result.ByteSize()
        return response

    def _fill(self, result: score_pb2.ItemResult, flight: _Flight) -> None:
        assert flight.outcome is not None  # it is ready
        try:
            convert.fill_result(result, flight.id, flight.outcome)
        except Exception as error:  # noqa: BLE001 - an outcome that cannot be written is an error, and never lost
            _LOG.exception("an outcome of %s cannot be written", self._engine.info.name)
            result.Clear()
            convert.fill_result(result, flight.id, errors.InternalError(f"the outcome cannot be written: {error!r}"))

    async def _wake_at_drain(self) -> None:
        await self._drain.wait()
        self._wake.set()
