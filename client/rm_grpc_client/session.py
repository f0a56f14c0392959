"""What one call of score_stream still owes its caller. Pure: no I/O, and the caller brings the clock.

The shells feed it items and responses; it says what to send next and which results are final. After a lost connection
everything unanswered is sent again, so that each item gets exactly one result whatever happens between.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rm_grpc import convert, errors
from rm_grpc.types import ModelInfo, Result, ScoreOptions
from rm_grpc.v1 import conversation_pb2, reward_service_pb2, score_pb2
from rm_grpc_client.inputs import Scorable, item_of

_MESSAGE_ITEMS = 32
_MESSAGE_BYTES = 1_000_000
_FIRST_WINDOW = 256
"""Items taken from the caller before the server has told its window."""
_MESSAGE_OVERHEAD = 1024
"""Bytes kept free in a message, for what stands around its items."""
_TIMEOUT_BYTES = 16
"""By how much what is left of a timeout may be longer on the wire than the whole of it."""
_ANSWER_GRACE = 5.0
"""Seconds past an item's deadline in which the server's own answer is still awaited."""
_TAKEN_BACK = errors.ItemCancelledError("taken back by the caller")


@dataclass(slots=True, eq=False)
class _Owed:
    index: int
    id: str
    proto: conversation_pb2.Item
    bytes: int
    deadline: float | None
    in_flight: bool = False
    withdrawn: bool = False
    attempts: int = 0
    losses: int = 0
    """How often the connection was lost while a server had it."""
    down_since: float | None = None
    """When a server first said, in this outage, that it cannot score it now."""
    down_last: float = 0.0


class Session:
    """The items of one stream, over any number of connections.

    Args:
        model, options: what the stream is opened with.
        timeout: seconds that each item may take, from when it is taken from the caller; None waits for ever.
        attempts: how often an item that the server has no room for is tried.
        reconnect: seconds for which an item that the server cannot score now is tried.
        max_message_bytes: largest message that may be sent; the server may tell a lower limit. An item above it is an error.
    """

    def __init__(
        self,
        *,
        model: str,
        options: ScoreOptions,
        timeout: float | None,
        attempts: int,
        max_message_bytes: int,
        reconnect: float = 60.0,
    ) -> None:
        self._model = model
        self._options = options
        self._timeout = timeout
        self._attempts = attempts
        self._reconnect = reconnect
        self._own_limit = self._max_message_bytes = max_message_bytes
        self._owed: dict[str, _Owed] = {}
        self._unsent: deque[_Owed] = deque()
        self._waiting: list[tuple[float, int, _Owed]] = []
        self._taken = 0
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._window_items, self._window_bytes = _FIRST_WINDOW, 0
        self._settled: list[Result] = []
        self._cancels: list[str] = []
        self.model_info: ModelInfo | None = None
        self.is_open = False
        self.draining = False
        self.source_ended = False

    @property
    def window(self) -> int:
        """How many items may be on their way at once."""
        return self._window_items

    @property
    def has_room(self) -> bool:
        """Whether another item may be taken from the caller."""
        return len(self._owed) < self._window_items

    @property
    def owes_nothing(self) -> bool:
        """Whether every item taken so far has its result."""
        return not self._owed

    @property
    def is_finished(self) -> bool:
        """Whether every result was given and no item will come."""
        return self.source_ended and self.owes_nothing and not self._settled

    # --- from the caller ----------------------------------------------------------------------------------------------

    def take(self, conversation: Scorable, now: float) -> Result | None:
        """Takes an item; its result at once where it cannot be sent, whatever the caller gave."""
        index = self._taken
        self._taken += 1
        item_id = str(index)
        try:
            item = item_of(conversation, default_id=item_id)
            item_id = item.id
            timeout = item.timeout if item.timeout is not None else self._timeout
            proto = convert.item_to_proto(replace(item, id=str(index), timeout=timeout))
        except errors.RewardError as error:
            return Result(item_id, index, error)
        except Exception as error:  # noqa: BLE001 - one odd item must not end the stream of the others
            return Result(item_id, index, errors.InvalidRequestError(f"cannot be read: {error!r}"))
        deadline = None if timeout is None else now + timeout
        owed = _Owed(index, item_id, proto, proto.ByteSize() + (0 if deadline is None else _TIMEOUT_BYTES), deadline)
        self._owed[proto.id] = owed
        self._unsent.append(owed)
        return None

    def withdraw(self, index: int) -> list[Result]:
        """Takes an item back. Its result comes at once where no server has it, else from the server."""
        owed = self._owed.get(str(index))
        if owed is None or owed.withdrawn:
            return []
        owed.withdrawn = True
        if owed.in_flight:
            self._cancels.append(owed.proto.id)
            return []
        return self._fail([owed], _TAKEN_BACK)

    # --- to the server ------------------------------------------------------------------------------------------------

    def opening(self) -> reward_service_pb2.ScoreBatchRequest:
        """The first message of a connection. What was in flight on the one before is sent again."""
        again = [owed for owed in self._owed.values() if owed.in_flight]
        for owed in again:
            owed.in_flight = False
            owed.losses += 1
        self._in_flight = self._in_flight_bytes = 0
        self._cancels.clear()
        self._settled += self._fail([owed for owed in again if owed.withdrawn], _TAKEN_BACK)
        again = [owed for owed in again if not owed.withdrawn]
        lost = [owed for owed in again if owed.losses >= self._attempts]
        self._settled += self._fail(lost, errors.UnavailableError(f"the server was lost {self._attempts} times with this item"))
        self._unsent.extendleft(owed for owed in reversed(again) if owed.losses < self._attempts)
        self.is_open = self.draining = False
        opening = reward_service_pb2.OpenStream(model=self._model, options=convert.options_to_proto(self._options))
        return reward_service_pb2.ScoreBatchRequest(open=opening)

    def next_message(self, now: float) -> reward_service_pb2.ScoreBatchRequest | None:
        """What may be sent now, or None: ids of items that are taken back, or items.

        Several items share a message; nothing waits for a message to fill.
        """
        while self._waiting and self._waiting[0][0] <= now:
            owed = heapq.heappop(self._waiting)[2]
            if owed.proto.id in self._owed:
                self._unsent.append(owed)
        if self._cancels and self.is_open:
            ids, self._cancels = self._cancels, []
            return reward_service_pb2.ScoreBatchRequest(cancel=reward_service_pb2.CancelItems(ids=ids))
        items: list[conversation_pb2.Item] = []
        size = 0
        limit = min(_MESSAGE_BYTES, self._max_message_bytes - _MESSAGE_OVERHEAD)
        while self._unsent and self.is_open and not self.draining and len(items) < _MESSAGE_ITEMS:
            owed = self._unsent[0]
            if owed.proto.id not in self._owed:
                self._unsent.popleft()
                continue
            if owed.bytes > self._max_message_bytes - _MESSAGE_OVERHEAD:
                self._unsent.popleft()
                told = f"the item has {owed.bytes} bytes, and the server reads messages of {self._max_message_bytes}"
                self._settled += self._fail([owed], errors.MessageTooLargeError(told))
                continue
            full = self._in_flight and self._in_flight_bytes + owed.bytes > self._window_bytes
            if self._in_flight >= self._window_items or full or (items and size + owed.bytes > limit):
                break
            self._unsent.popleft()
            if owed.deadline is not None:
                owed.proto.timeout.CopyFrom(convert.duration(max(0.0, owed.deadline - now)))
            owed.in_flight = True
            self._in_flight += 1
            self._in_flight_bytes += owed.bytes
            size += owed.bytes
            items.append(owed.proto)
        return reward_service_pb2.ScoreBatchRequest(items=reward_service_pb2.Items(items=items)) if items else None

    def next_wakeup(self) -> float | None:
        """When time alone will change something: a retry is due, or an item's deadline has passed."""
        while self._waiting and self._waiting[0][2].proto.id not in self._owed:
            heapq.heappop(self._waiting)
        times = [owed.deadline + _ANSWER_GRACE for owed in self._owed.values() if owed.deadline is not None]
        if self._waiting:
            times.append(self._waiting[0][0])
        return min(times, default=None)

    @property
    def next_retry(self) -> float | None:
        """When the first of the items that wait is to be tried again, or before; None where none waits."""
        return self._waiting[0][0] if self._waiting else None

    # --- from the server ----------------------------------------------------------------------------------------------

    def receive(self, response: reward_service_pb2.ScoreBatchResponse, now: float) -> list[Result]:
        """What a message of the server settles."""
        kind = response.WhichOneof("message")
        if kind == "results":
            settled = (self._settle(proto, now) for proto in response.results.results)
            return [result for result in settled if result is not None]
        if kind == "opened":
            self.model_info = convert.model_info_from_proto(response.opened.model)
            theirs = self.model_info.limits.max_message_bytes
            self._max_message_bytes = min(theirs, self._own_limit) if theirs else self._own_limit
            self.is_open = True
            self._set_window(response.opened.window)
        elif kind == "window":
            self._set_window(response.window)
        elif kind == "draining":
            self.draining = True
        return []

    def take_settled(self) -> list[Result]:
        """Results of items that could not be sent."""
        settled, self._settled = self._settled, []
        return settled

    def expire(self, now: float) -> list[Result]:
        """Results that no message of the server brought: those of `take_settled`, and of items whose deadline has passed
        without an answer, so that a server that hangs costs no more than that. Looks at every item, so it is for the clock."""
        settled = self.take_settled()
        late = [o for o in self._owed.values() if o.deadline is not None and now >= o.deadline + _ANSWER_GRACE]
        return settled + self._fail(
            late, errors.DeadlineExceededError("the item's time ran out without an answer of the server")
        )

    def _set_window(self, window: reward_service_pb2.Window) -> None:
        self._window_items = window.items or _FIRST_WINDOW
        self._window_bytes = window.bytes or 2**62

    def _settle(self, proto: score_pb2.ItemResult, now: float) -> Result | None:
        owed = self._owed.get(proto.id)
        if owed is None or not owed.in_flight:
            return None  # answered already, or expired here
        owed.in_flight = False
        self._in_flight -= 1
        self._in_flight_bytes -= owed.bytes
        result = replace(convert.result_from_proto(proto, owed.index), id=owed.id)
        if (error := result.error) is not None and self._will_retry(owed, error, now):
            return None
        del self._owed[proto.id]
        return result

    def _will_retry(self, owed: _Owed, error: errors.RewardError, now: float) -> bool:
        if error.retry_delay is None or owed.withdrawn:
            return False
        if isinstance(error, errors.DrainingError):
            self._unsent.append(owed)  # this server is going down; the next connection finds another, or it again
            self.draining = True
            return True
        if isinstance(error, errors.UnavailableError):
            # The server is there, and its scorers are not: they come back, or another server is no better off.
            is_new = owed.down_since is None or now - owed.down_last > error.retry_delay + _ANSWER_GRACE
            owed.down_since = now if is_new or owed.down_since is None else owed.down_since
            owed.down_last = now
            again = now + error.retry_delay
            is_over = now - owed.down_since >= self._reconnect
        else:
            owed.attempts += 1
            again = now + error.retry_delay * owed.attempts
            is_over = owed.attempts >= self._attempts
        if is_over or (owed.deadline is not None and again >= owed.deadline):
            return False
        heapq.heappush(self._waiting, (again, owed.index, owed))
        return True

    def _fail(self, owed: Iterable[_Owed], error: errors.RewardError) -> list[Result]:
        results = []
        for one in owed:
            del self._owed[one.proto.id]
            if one.in_flight:
                self._in_flight -= 1
                self._in_flight_bytes -= one.bytes
            results.append(Result(one.id, one.index, error))
        return results
