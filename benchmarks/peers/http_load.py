"""A closed loop of workers over HTTP/1.1, each on a connection of its own. Requests are built before the clock starts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.load import Served
from benchmarks.processes import cpu_seconds


class AnswerError(Exception):
    """A server answered something else than a score."""


def request(path: str, body: bytes, *, method: str = "POST") -> bytes:
    """A whole request, as bytes."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> bytes:
    """Sends a request and gives the body of the answer.

    Raises:
        AnswerError: its status is not 200, or its length is not told.
    """
    writer.write(sent)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    fields = dict(line.partition(":")[::2] for line in head.splitlines()[1:] if line)
    if "content-length" not in fields:
        raise AnswerError(f"no content-length in {head!r}")
    body = await reader.readexactly(int(fields["content-length"]))
    if head.split(" ", 2)[1] != "200":
        raise AnswerError(f"{head.splitlines()[0]}: {body[:300]!r}")
    return body


async def _worker(port: int, todo: Iterator[tuple[int, bytes]], found: list[tuple[int, bytes, float]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        for at, sent in todo:
            began = time.perf_counter()
            body = await exchange(reader, writer, sent)
            found.append((at, body, time.perf_counter() - began))
    finally:
        writer.close()


async def _closed_loop(port: int, pid: int, requests: Sequence[bytes], workers: int, score: Callable[[bytes], float]) -> Served:
    found: list[tuple[int, bytes, float]] = []
    todo = iter(enumerate(requests))
    cpu, started = cpu_seconds(pid), time.perf_counter()
    await asyncio.gather(*(_worker(port, todo, found) for _ in range(workers)))
    seconds, cpu = time.perf_counter() - started, cpu_seconds(pid) - cpu
    found.sort()
    return Served(seconds, cpu, [score(body) for _, body, _ in found], [latency for *_, latency in found])


def closed_loop(port: int, pid: int, requests: Sequence[bytes], workers: int, score: Callable[[bytes], float]) -> Served:
    """Sends requests with `workers` in flight; `score` reads the number from an answer's body, after the clock has stopped.

    Raises:
        AnswerError: an answer was no score.
    """
    return asyncio.run(asyncio.wait_for(_closed_loop(port, pid, requests, workers, score), timeout=600))


def is_ready(port: int, path: str) -> bool:
    """Whether a server answers 200 there."""

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await exchange(reader, writer, request(path, b"", method="GET"))
        finally:
            writer.close()

    try:
        asyncio.run(asyncio.wait_for(ask(), timeout=5))
    except (OSError, AnswerError, asyncio.IncompleteReadError, TimeoutError, asyncio.TimeoutError):
        return False
    return True
