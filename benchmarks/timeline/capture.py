"""Streams a few conversations to a server that writes a trace, and reads the trace."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import checkpoint
from benchmarks.encoder import Encoder
from benchmarks.options import Options
from benchmarks.server import reward_server, run_folder
from benchmarks.workloads import Conversation, Workload
from rm_grpc_client import AsyncRewardClient, Item
from rm_grpc_client import Conversation as ClientConversation

_GROUPS, _SINGLES = 3, 6
_SECONDS = 0.9
"""Time in which the conversations finish and are sent."""
_READ_BACK = 0.02
"""Most seconds for which one batch's scores are read while the next one's forward has begun."""
SINGLE = "single"


class TraceError(Exception):
    """The trace does not hold what was sent."""


@dataclass(frozen=True, slots=True)
class TracedItem:
    """One conversation; times are seconds since the first was accepted.

    Attributes:
        group: its group's name, or `SINGLE`.
        started, rendered, encoded: the text pipeline's work on it. Items that are encoded together share the time of all.
        queued: when it began to wait for a forward pass.
        shared_tokens: how many of its tokens are computed for others too, or were before.
    """

    group: str
    accepted: float
    started: float
    rendered: float
    encoded: float
    queued: float
    tokens: int
    shared_tokens: int


@dataclass(frozen=True, slots=True)
class TracedBatch:
    """One batch.

    Attributes:
        received, packed, started, ended: when it came to the replica, was packed, began its forward pass and had its scores.
        replica: number of the replica; the trace does not say it, and what overlaps is taken to run on different ones.
    """

    received: float
    packed: float
    started: float
    ended: float
    computed_tokens: int
    items: tuple[TracedItem, ...]
    replica: int = 0


def capture(options: Options) -> list[TracedBatch]:
    """Serves the first model of the options, streams groups of answers and single rollouts, and gives what was traced."""
    folder = checkpoint(options.sizes[0])
    workload = Workload(Encoder(folder))
    file = run_folder("timeline") / "trace.jsonl"
    with reward_server(folder, options.settings, trace_file=str(file)) as server:
        asyncio.run(_stream(server.address, _finishing(workload, options.repeat()), 0.0))
        warm = len(file.read_text().splitlines())
        sent = asyncio.run(_stream(server.address, _finishing(workload, options.repeat()), _SECONDS))
    return _read(file, warm, sent)


def _finishing(workload: Workload, repeat: int) -> list[Conversation]:
    """Groups and single rollouts in the order in which they finish."""
    order = random.Random(1)
    made = workload.groups(_GROUPS, repeat)
    for single in workload.rollouts(_SINGLES, repeat):
        made.insert(order.randrange(len(made)), single)
    return made


async def _stream(address: str, conversations: Sequence[Conversation], seconds: float) -> list[Conversation]:
    """Sends conversations one by one over so many seconds, and waits for all scores."""
    pace = random.Random(0)

    async def items() -> AsyncIterator[Item]:
        for at, one in enumerate(conversations):
            yield Item(str(at), ClientConversation.from_openai(one.messages), group=one.group)
            await asyncio.sleep(pace.uniform(0.0, 2.0) * seconds / len(conversations))

    async with AsyncRewardClient(address) as client:
        await client.list_models()
        async for result in client.score_stream(items()):
            if result.score is None:
                raise result.error or RuntimeError("a result with neither score nor error")
    return list(conversations)


def _read(file: Path, skip: int, sent: Sequence[Conversation]) -> list[TracedBatch]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()[skip:]]
    accepted = sorted(item["accepted"] for line in lines for item in line["items"])
    if len(accepted) != len(sent):
        raise TraceError(f"{file} holds {len(accepted)} items of {len(sent)} that were sent")
    of = dict(zip(accepted, sent, strict=True))
    start = accepted[0]
    batches = [
        TracedBatch(
            line["received"] - start,
            line["packed"] - start,
            line["started"] - start,
            line["ended"] - start,
            line["computed_tokens"],
            tuple(_item(item, of[item["accepted"]], start) for item in line["items"]),
        )
        for line in sorted(lines, key=lambda line: float(line["started"]))
    ]
    return _on_replicas(batches)


def _item(told: dict[str, Any], sent: Conversation, start: float) -> TracedItem:
    if told["tokens"] != len(sent.ids):
        raise TraceError(f"an item of {told['tokens']} tokens stands where one of {len(sent.ids)} was sent")
    started = told["text_started"] - start
    rendered = started + told["render"]
    return TracedItem(
        sent.group or SINGLE,
        told["accepted"] - start,
        started,
        rendered,
        rendered + told["encode"],
        told["queued"] - start,
        told["tokens"],
        told["shared_tokens"],
    )


def _on_replicas(batches: Sequence[TracedBatch]) -> list[TracedBatch]:
    """A replica begins a forward when its last one returned, and that one's scores are read a moment later."""
    ends: list[float] = []
    placed = []
    for batch in batches:
        free = [at for at, end in enumerate(ends) if end <= batch.started + _READ_BACK]
        at = max(free, key=lambda one: ends[one], default=len(ends))
        if at == len(ends):
            ends.append(0.0)
        ends[at] = batch.ended
        placed.append(replace(batch, replica=at))
    return placed
