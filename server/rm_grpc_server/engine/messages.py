"""What goes between the server's process and a replica's, over a socket pair: length, then pickle. Both ends are ours."""

from __future__ import annotations

import pickle
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice, pairwise
from typing import Any, NamedTuple, TypeAlias, TypeGuard, cast

import numpy as np

from rm_grpc.types import Item, Verdict
from rm_grpc_server.scoring.protocols import BatchOutcome, Outcome, ScorerDescription
from rm_grpc_server.text.encoding import Tokens

LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """What a replica is to run.

    Attributes:
        factory: `package.module:attribute`, called with the arguments; gives a `ReplicaScorer`.
        arguments: values that can be pickled.
        environment: variables of the replica's process beside the server's own.
    """

    factory: str
    arguments: tuple[Any, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """A batch to score: tokens, or whole items for scorers that read no tokens."""

    number: int
    conversations: Sequence[Tokens] | Sequence[Item]

    def __reduce__(self) -> tuple[Any, ...]:
        """All ids in one piece: pickling many small arrays takes longer than scoring them may."""
        if not self.conversations or not isinstance(self.conversations[0], Tokens):
            return Work, (self.number, list(self.conversations))
        tokens = cast("Sequence[Tokens]", self.conversations)
        ids, reads = [one.ids for one in tokens], [one.reads for one in tokens]
        flat_reads = list(chain.from_iterable(reads))
        packed = (b"".join([one.data for one in ids]), [len(one) for one in ids], flat_reads, [len(one) for one in reads])
        return _unpacked, (self.number, *packed)


def _unpacked(number: int, ids: bytes, lengths: list[int], flat_reads: list[int], counts: list[int]) -> Work:
    flat, reads = np.frombuffer(ids, dtype=np.int32), iter(flat_reads)
    spans = pairwise(accumulate(lengths, initial=0))
    return Work(
        number,
        [Tokens(flat[start:end], tuple(islice(reads, count))) for (start, end), count in zip(spans, counts, strict=True)],
    )


@dataclass(frozen=True, slots=True)
class Ready:
    """The replica has loaded its scorer and proved it."""

    description: ScorerDescription


@dataclass(frozen=True, slots=True)
class Refused:
    """The replica cannot run what it was asked to."""

    message: str


class Stages(NamedTuple):
    """When a batch went through the stages of a replica: seconds on the machine's monotonic clock, one for all processes."""

    received: float = 0.0
    packed: float = 0.0
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """A batch was scored."""

    number: int
    result: BatchOutcome
    stages: Stages

    def __reduce__(self) -> tuple[Any, ...]:
        """Verdicts that are a raw score alone, which nearly all are, as numbers in one list."""
        outcomes = self.result.outcomes
        raw_scores = [outcome.raw_score if _is_plain(outcome) else None for outcome in outcomes]
        others = [outcome for outcome in outcomes if not _is_plain(outcome)]
        result = (raw_scores, others, list(self.result.shared_tokens), self.result.computed_tokens)
        return _done, (self.number, self.stages, *result)


def _is_plain(outcome: Outcome) -> TypeGuard[Verdict]:
    if type(outcome) is not Verdict or outcome.attributes or outcome.steps:
        return False
    return type(outcome.raw_score) is float  # a scorer of somebody else's may give what is no number at all


def _done(
    number: int,
    stages: Stages,
    raw_scores: list[float | None],
    others: list[Outcome],
    shared_tokens: list[int],
    computed_tokens: int,
) -> Done:
    rest = iter(others)
    outcomes = [next(rest) if raw_score is None else Verdict(raw_score) for raw_score in raw_scores]
    return Done(number, BatchOutcome(outcomes, shared_tokens, computed_tokens), stages)


@dataclass(frozen=True, slots=True)
class Failed:
    """A batch was not scored, and the replica goes on."""

    number: int
    message: str
    out_of_memory: bool = False


Message: TypeAlias = Ready | Refused | Done | Failed


def frame(message: object) -> bytes:
    """A message as it is sent."""
    body = pickle.dumps(message, protocol=5)
    return LENGTH.pack(len(body)) + body


def taken(unread: bytearray) -> Iterator[Any]:
    """Takes the messages that are whole off the beginning of what was read."""
    while len(unread) >= LENGTH.size:
        (length,) = LENGTH.unpack_from(unread)
        if len(unread) < LENGTH.size + length:
            return
        body = bytes(memoryview(unread)[LENGTH.size : LENGTH.size + length])
        del unread[: LENGTH.size + length]
        yield pickle.loads(body)


class BlockingChannel:
    """The replica's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """From any thread; raises OSError where the server is gone."""
        data = frame(message)
        with self._lock:
            self._connection.sendall(data)

    def receive(self) -> Any:
        """The next message, or None where the server is gone."""
        head = self._reader.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack(head)
        body = self._reader.read(length)
        return pickle.loads(body) if len(body) == length else None
