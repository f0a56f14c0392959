"""What a pool of replicas works for, and what it is given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np

from rm_grpc.types import Item, ScoreOptions
from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.engine.messages import Stages
from rm_grpc_server.scoring.protocols import BatchOutcome
from rm_grpc_server.text.encoding import Encoding


def entry(*ids: int) -> Entry:
    made = Entry(Item("", "x"), ScoreOptions(), None, 0.0)
    made.encoding = Encoding(np.array(ids, dtype=np.int32), "", (len(ids) - 1,))
    made.queued = time.monotonic()
    return made


class Notes:
    """An employer that writes down what it is told."""

    def __init__(self) -> None:
        self.done: list[tuple[Sequence[Entry], BatchOutcome, Stages]] = []
        self.failures: list[tuple[Sequence[Entry], str, bool]] = []
        self.losses: list[tuple[Sequence[Entry], Sequence[Entry]]] = []

    def scored(self, entries: Sequence[Entry], result: BatchOutcome, stages: Stages) -> None:
        self.done.append((entries, result, stages))

    def failed(self, entries: Sequence[Entry], message: str, *, out_of_memory: bool) -> None:
        self.failures.append((entries, message, out_of_memory))

    def lost(self, suspects: Sequence[Entry], others: Sequence[Entry]) -> None:
        self.losses.append((suspects, others))

    def changed(self) -> None:
        pass


async def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
