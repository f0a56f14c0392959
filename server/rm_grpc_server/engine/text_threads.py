"""Threads that render and encode, shared by all models; streams take turns at them, however much each has waiting."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple, Unpack

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_AT_HAND = 2
"""Jobs that each thread has, the one in work included, so that none waits for the event loop."""


class TextThreads:
    """Runs jobs on threads.

    Args:
        count: how many threads.
    """

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="text")
        self._room = _AT_HAND * count
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()
        """By stream, the one whose turn it is first. Only while there is no room."""

    async def run(self, stream: Hashable, job: Callable[[Unpack[_Ts]], _T], *args: Unpack[_Ts]) -> _T:
        """What a job gives, once its stream's turn has come; raises what it raises."""
        if self._room:
            self._room -= 1
        else:
            await self._turn(stream)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, job, *args)
        finally:
            self._pass_on()

    async def _turn(self, stream: Hashable) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(stream, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came all the same
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            stream, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[stream] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._room += 1

    def close(self) -> None:
        """Begins no further job, and waits for none."""
        self._executor.shutdown(wait=False, cancel_futures=True)
