"""The bare forward: what the same weights and conversations cost with nothing around them, laid out in the best way found."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from benchmarks.layouts import Layout
from benchmarks.processes import Child
from benchmarks.server import run_folder
from benchmarks.workloads import Conversation, tokens


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run the forwards: a layout, threads of each process, and processes that share the conversations."""

    layout: Layout
    threads: int
    processes: int = 1

    def __str__(self) -> str:
        split = f", {self.processes} processes" if self.processes > 1 else ""
        return f"{self.layout}, {self.threads} thread{'s' if self.threads > 1 else ''}{split}"


@dataclass(frozen=True, slots=True)
class Run:
    """Conversations that were scored.

    Attributes:
        seconds: from the first forward to the end of the last.
        cpu: CPU seconds of all processes together.
        scores: in the conversations' order.
        latencies: seconds of each, where they were measured.
    """

    seconds: float
    cpu: float
    scores: list[float]
    latencies: list[float]


class Bare:
    """Child processes that each hold the model and wait, asleep, for orders."""

    def __init__(self, children: Sequence[_Child]) -> None:
        self._children = children

    def score(self, conversations: Sequence[Conversation], way: Way) -> Run:
        """The bare forward of conversations; the slowest process counts."""
        shares = _shares([len(one.ids) for one in conversations], way.processes)
        working = self._children[: way.processes]
        for child, share in zip(working, shares, strict=True):
            child.order(do="score", ids=[conversations[at].ids for at in share], layout=asdict(way.layout), threads=way.threads)
        answers = [child.answer() for child in working]
        scores = [0.0] * len(conversations)
        for answer, share in zip(answers, shares, strict=True):
            for at, score in zip(share, answer["scores"], strict=True):
                scores[at] = score
        return Run(max(each["seconds"] for each in answers), sum(each["cpu"] for each in answers), scores, [])

    def card(self, conversations: Sequence[Conversation], threads: int) -> Run:
        """The loop of model cards, template and tokenizer included."""
        return self._text(conversations, do="card", threads=threads)

    def batches(self, conversations: Sequence[Conversation], most_tokens: int, threads: int) -> Run:
        """Padded batches sorted by length, template and tokenizer included."""
        return self._text(conversations, do="batches", tokens=most_tokens, threads=threads)

    def matmul(self, threads: int) -> float:
        """Floating-point operations per second of the layers' own matrix products."""
        self._children[0].order(do="matmul", threads=threads)
        return float(self._children[0].answer()["rate"])

    def _text(self, conversations: Sequence[Conversation], **order: Any) -> Run:
        child = self._children[0]
        child.order(conversations=[list(one.messages) for one in conversations], **order)
        answer = child.answer()
        return Run(answer["seconds"], answer["cpu"], answer["scores"], answer["latencies"])


class _Child:
    def __init__(self, child: Child, answers: TextIO) -> None:
        self._child = child
        self._answers = answers

    def order(self, **order: Any) -> None:
        assert self._child.process.stdin is not None
        self._child.process.stdin.write(json.dumps(order).encode() + b"\n")
        self._child.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            self._child.process.wait()
            self._child.check()
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def bare_forward(folder: Path, *, processes: int = 1) -> Iterator[Bare]:
    """The bare model, in as many processes as the ways that will be asked of it need.

    Raises:
        ChildFailedError: a process ended.
    """
    with ExitStack() as stack:
        children = [stack.enter_context(_child(folder)) for _ in range(processes)]
        for child in children:
            child.answer()  # the model is loaded
        yield Bare(children)


@contextmanager
def _child(folder: Path) -> Iterator[_Child]:
    read, write = os.pipe()
    command = [sys.executable, "-m", "benchmarks.bare_child", str(folder), str(write)]
    with Child(command, log=run_folder("bare") / "log", inherit=(write,)) as child, os.fdopen(read) as answers:
        os.close(write)
        yield _Child(child, answers)


def _shares(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Positions dealt to `count` processes, the longest first, each to the one with the fewest tokens."""
    shares: list[list[int]] = [[] for _ in range(count)]
    sums = [0] * count
    for at in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        least = sums.index(min(sums))
        shares[least].append(at)
        sums[least] += lengths[at]
    return shares


def ways(cores: int, *, quick: bool = False) -> list[Way]:
    """The ways that are tried: every layout with all cores as threads, and some with one thread, in one and in more processes.

    Args:
        quick: a few of them.
    """
    few = (Layout("single"), Layout("packed", 512), Layout("padded", 1024))
    several = [Layout(kind, size) for kind in ("packed", "padded") for size in (256, 512, 1024, 2048)]
    all_cores = [Way(layout, cores) for layout in (few if quick else (few[0], *several))]
    if cores == 1:
        return all_cores
    one_thread = [Way(layout, 1) for layout in few[: 1 if quick else None]]
    return [*all_cores, *one_thread, *(Way(way.layout, 1, cores) for way in one_thread)]


@dataclass(frozen=True, slots=True)
class Tried:
    """A way that was tried: its best rate, in tokens per second, and its scores."""

    way: Way
    rate: float
    scores: list[float]


def try_ways(bare: Bare, sample: Sequence[Conversation], ways_to_try: Sequence[Way], finalists: int = 4) -> list[Tried]:
    """Each way once, then the fastest few again; the fastest first."""
    bare.score(sample[:2], ways_to_try[0])  # warm
    tried = sorted((_tried(bare, sample, way) for way in ways_to_try), key=lambda one: -one.rate)
    again = [max(one, _tried(bare, sample, one.way), key=lambda each: each.rate) for one in tried[:finalists]]
    return sorted([*again, *tried[finalists:]], key=lambda one: -one.rate)


def _tried(bare: Bare, sample: Sequence[Conversation], way: Way) -> Tried:
    run = bare.score(sample, way)
    return Tried(way, tokens(sample) / run.seconds, run.scores)
