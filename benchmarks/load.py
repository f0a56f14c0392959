"""A closed loop of workers over the service's own client: each sends its next conversation when its last one is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.processes import cpu_seconds
from benchmarks.workloads import Conversation
from rm_grpc_client import AsyncRewardClient, Item
from rm_grpc_client import Conversation as ClientConversation


@dataclass(frozen=True, slots=True)
class Served:
    """Conversations that a server scored.

    Attributes:
        seconds: from the first request to the last answer.
        cpu: CPU seconds of the server's whole process tree meanwhile.
        scores: in the conversations' order.
        latencies: seconds from each request to its answer.
        shared_tokens: tokens that the server says it did not compute again.
    """

    seconds: float
    cpu: float
    scores: list[float]
    latencies: list[float]
    shared_tokens: int = 0


class _Worker:
    """One stream with one conversation in flight; all take from the same `todo`."""

    def __init__(self, client: AsyncRewardClient, todo: Iterator[tuple[int, Item]]) -> None:
        self._client = client
        self._todo = todo
        self._answered = asyncio.Semaphore(1)
        self._sent: tuple[int, float] = (0, 0.0)
        self.found: list[tuple[int, float, float, int]] = []

    async def run(self) -> None:
        async for result in self._client.score_stream(self._items()):
            if result.score is None:
                raise result.error or RuntimeError("a result with neither score nor error")
            at, sent = self._sent
            self.found.append((at, result.score.raw_score, time.perf_counter() - sent, result.score.shared_prefix_tokens))
            self._answered.release()

    async def _items(self) -> AsyncIterator[Item]:
        await self._answered.acquire()
        for at, item in self._todo:
            self._sent = (at, time.perf_counter())
            yield item
            await self._answered.acquire()


async def _closed_loop(address: str, pid: int, conversations: Sequence[Conversation], workers: int) -> Served:
    items = [
        Item(str(at), ClientConversation.from_openai(one.messages), group=one.group) for at, one in enumerate(conversations)
    ]
    async with AsyncRewardClient(address) as client:
        await client.list_models()  # the connection stands before the clock starts
        remaining = iter(enumerate(items))
        at_work = [_Worker(client, remaining) for _ in range(workers)]
        cpu, started = cpu_seconds(pid), time.perf_counter()
        await asyncio.gather(*(worker.run() for worker in at_work))
        seconds, cpu = time.perf_counter() - started, cpu_seconds(pid) - cpu
    found = sorted(answer for worker in at_work for answer in worker.found)
    return Served(
        seconds,
        cpu,
        [score for _, score, _, _ in found],
        [latency for _, _, latency, _ in found],
        sum(shared for *_, shared in found),
    )


def closed_loop(address: str, pid: int, conversations: Sequence[Conversation], workers: int) -> Served:
    """Sends conversations with `workers` in flight.

    Args:
        pid: of the server, for its CPU time.

    Raises:
        RewardError: a conversation was not scored.
    """
    return asyncio.run(_closed_loop(address, pid, conversations, workers))
