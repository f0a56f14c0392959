"""The load generator of `overhead`: messages that were serialized before the clock starts, over one stream, as raw bytes.

It drives the service and the bare echo alike: both answer with the service's own messages, and each answer is parsed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import grpc

from benchmarks.processes import cpu_seconds
from rm_grpc.v1 import reward_service_pb2

SCORE_BATCH = "/rm_grpc.v1.RewardService/ScoreBatch"
ECHO = "/benchmarks.Echo/Stream"
_LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class RefusedError(Exception):
    """The server answered an item with an error."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Conversations that were answered.

    Attributes:
        conversations: how many.
        seconds: from the first message to the last answer.
        cpu: CPU seconds of the server's whole process tree meanwhile.
        client_cpu: CPU seconds of this process.
        answers: the first messages that came back, as bytes.
        scores: of all, in the order of answers.
    """

    conversations: int
    seconds: float
    cpu: float
    client_cpu: float
    answers: list[bytes]
    scores: list[float]


@dataclass(slots=True)
class _Answers:
    """What came back so far."""

    scores: list[float] = field(default_factory=list)
    first: list[bytes] = field(default_factory=list)

    def take(self, data: bytes) -> int:
        """Reads one message; returns how many conversations it answers."""
        if len(self.first) < 4:
            self.first.append(data)
        results = reward_service_pb2.ScoreBatchResponse.FromString(data).results.results
        for result in results:
            if result.WhichOneof("outcome") != "score":
                raise RefusedError(f"item {result.id}: {result.error.message}")
            self.scores.append(result.score.raw_score)
        return len(results)


async def _drive(
    address: str, method: str, opening: bytes | None, messages: Sequence[bytes], each: int, in_flight: int, pid: int
) -> Sent:
    async with grpc.aio.insecure_channel(address, options=_LIMITS) as channel:
        await channel.channel_ready()
        call = cast("grpc.aio.StreamStreamCall[bytes, bytes]", channel.stream_stream(method)())
        if opening is not None:
            await call.write(opening)
            await call.read()
        room = asyncio.Semaphore(in_flight // each)
        answers, expected = _Answers(), each * len(messages)
        cpu, client, started = cpu_seconds(pid), time.process_time(), time.perf_counter()

        async def read() -> None:
            waiting = 0
            while len(answers.scores) < expected:
                data: Any = await call.read()
                if data is grpc.aio.EOF:
                    raise RefusedError(f"the stream ended after {len(answers.scores)} of {expected} answers")
                waiting += answers.take(data)
                while waiting >= each:
                    waiting -= each
                    room.release()

        reader = asyncio.create_task(read())
        for message in messages:
            await room.acquire()
            if reader.done():
                break
            await call.write(message)
        await reader
        taken = time.perf_counter() - started, cpu_seconds(pid) - cpu, time.process_time() - client
        await call.done_writing()
        call.cancel()
    return Sent(expected, *taken, answers.first, answers.scores)


def drive(
    address: str,
    method: str,
    messages: Sequence[bytes],
    *,
    each: int,
    in_flight: int,
    pid: int,
    opening: bytes | None = None,
) -> Sent:
    """Sends messages over one stream.

    Args:
        method: `SCORE_BATCH` or `ECHO`.
        each: conversations in a message.
        in_flight: most conversations without an answer.
        pid: of the server, for its CPU time.
        opening: a first message that is answered once before the clock starts.

    Raises:
        RefusedError: an item was answered with an error, or the stream ended early.
    """
    return asyncio.run(asyncio.wait_for(_drive(address, method, opening, messages, each, in_flight, pid), timeout=600))
