"""Scorers as strangers write them, some of them badly. A response that is the name of a fault gets that fault."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rm_grpc import errors
from rm_grpc.scorer import Outcome, Request
from rm_grpc.types import StepScore, Verdict


def length(requests: Sequence[Request]) -> list[float]:
    """Characters of the response."""
    return [float(len(request.response)) for request in requests]


def all_that_came(requests: Sequence[Request]) -> list[Outcome]:
    """As an error, so that a test sees it."""
    return [errors.InvalidRequestError(json.dumps(_shown(request))) for request in requests]


def _shown(request: Request) -> dict[str, Any]:
    messages = request.conversation.messages
    return {
        "roles": [message.role for message in messages],
        "prompt": [message.text for message in request.prompt],
        "calls": [[call.name, call.arguments] for message in messages for call in message.tool_calls],
        "reasoning": [message.reasoning_content for message in messages],
        "tools": request.conversation.tools,
        "metadata": dict(request.metadata),
        "group": request.group,
        "thread": threading.current_thread() is threading.main_thread(),
        "devices": os.environ["CUDA_VISIBLE_DEVICES"],
    }


async def slow(requests: Sequence[Request]) -> list[float]:
    """Waits as many seconds as the response says."""
    await asyncio.sleep(max(float(request.response) for request in requests))
    return [float(request.response) for request in requests]


class Noted:
    """Writes down what happens to it."""

    def __init__(self, file: str, *, weight: float = 1.0) -> None:
        self._file = Path(file)
        self._weight = weight
        self._note("made")

    def _note(self, told: object) -> None:
        with self._file.open("a") as file:
            file.write(f"{told} {threading.current_thread() is threading.main_thread()}\n")

    def warmup(self) -> None:
        self._note("warm")

    def score(self, requests: Sequence[Request]) -> list[float]:
        self._note(len(requests))
        time.sleep(0.05)
        return [self._weight * len(request.response) for request in requests]

    def close(self) -> None:
        time.sleep(0.3)
        self._note("closed")


class NotedAsync(Noted):
    """Its coroutines need one loop for their whole life."""

    one_by_one = True

    async def warmup(self) -> None:  # type: ignore[override]
        self._loop = asyncio.get_running_loop()
        self._note("warm")

    async def score(self, request: Request) -> float:  # type: ignore[override]
        assert asyncio.get_running_loop() is self._loop
        self._note("one")
        await asyncio.sleep(0.05)
        self._note("over")
        return self._weight * len(request.response)

    async def close(self) -> None:  # type: ignore[override]
        assert asyncio.get_running_loop() is self._loop
        self._note("closed")


class Rich:
    """Attributes and steps, some of them in types that the wire does not know."""

    def score(self, requests: Sequence[Request]) -> Iterator[Outcome]:
        for request in requests:
            steps = tuple(StepScore(np.float32(at), 0, at, at + 1) for at in range(len(request.response)))  # type: ignore[arg-type]
            yield Verdict(np.float64(0.5), {"length": np.int64(len(request.response)), "flag": True}, steps)  # type: ignore[dict-item]


class _Own(errors.TemplateRefusedError):
    """An error of a class that only this module has."""


class Odd:
    """Anything at all where a number is expected."""

    class _Hostile:
        def __float__(self) -> float:
            raise KeyError("no")

        def __repr__(self) -> str:
            raise ValueError("not even this")

    def score(self, requests: Sequence[Request]) -> list[Any]:
        return [self._of(request.response) for request in requests]

    def _of(self, response: str) -> Any:
        import torch

        given: dict[str, Callable[[], Any]] = {
            "none": lambda: None,
            "text": lambda: "1.5",
            "nan": lambda: float("nan"),
            "inf": lambda: np.inf,
            "huge": lambda: 1e300,
            "vast": lambda: 10**400,
            "list": lambda: [1.0],
            "complex": lambda: 1j,
            "two": lambda: np.array([1.0, 2.0]),
            "hostile": self._Hostile,
            "long text": lambda: "x" * 10_000_000,
            "nan attribute": lambda: Verdict(1.0, {"a": float("nan")}),
            "text attribute": lambda: Verdict(1.0, {"a": "b"}),  # type: ignore[dict-item]
            "odd name": lambda: Verdict(1.0, {5: 1.0}),  # type: ignore[dict-item]
            "half name": lambda: Verdict(1.0, {"\ud800": 1.0}),
            "many attributes": lambda: Verdict(1.0, {str(at): 1.0 for at in range(100_000)}),
            "many steps": lambda: Verdict(1.0, {}, (StepScore(1.0, 0, 0, 1),) * 100_000),
            "odd step": lambda: Verdict(1.0, {}, (StepScore(1.0, 0, 5, -1),)),
            "lambda": lambda: lambda: 1.0,
            "own error": lambda: _Own("refused here", field="conversation"),
            "large error": lambda: errors.InvalidRequestError("x", metadata={"a": "b" * 10**6}),
            "true": lambda: True,
            "int": lambda: 3,
            "numpy": lambda: np.float32(2.5),
            "array": lambda: np.array([[4.0]]),
            "torch": lambda: torch.tensor(1.5, requires_grad=True),
            "most": lambda: Verdict(1.0, {f"{at:064}": 1.0 for at in range(256)}, (StepScore(1.0, 1, 1, 2),) * 1024),
        }
        return given[response]()


def wrong_shape(requests: Sequence[Request]) -> Any:
    """No list with one outcome a request, in many ways."""
    scores = [float(len(request.response)) for request in requests]
    for request in requests:
        if request.response == "short":
            return scores[:-1]
        if request.response == "long":
            return [*scores, 1.0]
        if request.response == "number":
            return 0.5
        if request.response == "digits":
            return "1" * len(requests)
        if request.response == "mapping":
            return dict(enumerate(scores))
        if request.response == "endless":
            return iter(lambda: 1.0, None)
        if request.response == "array":
            return np.array(scores)
    return (score for score in scores)


def fails(requests: Sequence[Request]) -> list[float]:
    """Raises, or dies, by the response."""
    print("noise on standard output", "x" * 10_000)
    print("noise on standard error", file=sys.stderr)
    for request in requests:
        _fail(request.response)
    return length(requests)


def _fail(fault: str) -> None:
    if fault == "raise":
        raise ValueError("a fault of this request")
    if fault == "typed":
        raise errors.InvalidRequestError("this scorer needs an answer", field="metadata.answer")
    if fault == "exit":
        sys.exit(3)
    if fault == "interrupt":
        raise KeyboardInterrupt
    if fault == "stop":
        next(iter(()))
    if fault == "cancel":
        raise asyncio.CancelledError
    if fault == "cancelled future":
        raise concurrent.futures.CancelledError
    if fault == "loop":
        asyncio.run(asyncio.sleep(0))
    if fault == "die":
        os._exit(0)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "segfault":
        ctypes.string_at(0)
    if fault == "hang":
        time.sleep(3600)
    if fault == "leave a child":
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,)).start()
        os._exit(0)


async def fails_async(requests: Sequence[Request]) -> list[float]:
    """The same, as coroutines."""
    for request in requests:
        if request.response == "hang":
            await asyncio.sleep(3600)
        _fail(request.response)
    await asyncio.sleep(0.01)
    return length(requests)


_KEPT: list[bytearray] = []


def leaks(requests: Sequence[Request]) -> list[float]:
    """Keeps 20 MB for each request; asks for a terabyte where the response says so."""
    _KEPT.extend(bytearray(20_000_000 if request.response != "greedy" else 10**12) for request in requests)
    return length(requests)


def children(requests: Sequence[Request]) -> list[float]:
    """How a child that is asked to end has ended, by a program and by a fork; a thread is left running."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    time.sleep(0.3)
    program.terminate()
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
    fork.start()
    fork.terminate()
    fork.join(20)
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return [float(program.wait(20) == -signal.SIGTERM and fork.exitcode == -signal.SIGTERM)] * len(requests)


def warns(requests: Sequence[Request]) -> list[float]:
    """Bounded by an alarm, which needs the main thread."""

    def ring(*_: object) -> None:
        raise TimeoutError("it took too long")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        for request in requests:
            time.sleep(float(request.response))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return [1.0] * len(requests)


class BadWarmup:
    """Cannot be made ready."""

    async def warmup(self) -> None:
        raise RuntimeError("the weights are gone")

    def score(self, requests: Sequence[Request]) -> list[float]:
        return length(requests)


class Exits(BadWarmup):
    """Ends the process instead of failing."""

    def __init__(self) -> None:
        sys.exit("no license")


NOTHING = 5
