"""The engines: which package in which version, the environment it gets, and a process for each."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from benchmarks.peers.environment import Environment
from benchmarks.processes import Child
from benchmarks.server import run_folder

OURS, BASELINE, NEXT, GIGATOKEN, FASTOKENS, TIKTOKEN = (
    "rm-grpc-native",
    "tokenizers 0.23",
    "tokenizers 1.0",
    "gigatoken",
    "fastokens",
    "tiktoken",
)
PEERS: Mapping[str, tuple[str, ...]] = {
    NEXT: ("tokenizers==1.0.0rc3", "numpy==2.4.6"),
    GIGATOKEN: ("gigatoken==0.10.0", "numpy==2.4.6"),
    FASTOKENS: ("fastokens==0.3.5", "numpy==2.4.6"),
    TIKTOKEN: ("tiktoken==0.14.0", "numpy==2.4.6"),
}
"""What each peer's environment holds; ours and the baseline run in the project's."""
_ONE_THREAD = {
    "RAYON_NUM_THREADS": "1",
    "RAYON_RS_NUM_CPUS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "FASTOKENS_BPE_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class EngineError(Exception):
    """An engine could not do what it was asked for; the message is its own."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine's process, asleep between orders."""

    name: str
    _child: Child
    _answers: BinaryIO

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """Sends an order and waits for the answer.

        Raises:
            EngineError: the engine failed.
            ChildFailedError: its process ended.
        """
        assert self._child.process.stdin is not None
        try:
            pickle.dump({"do": do, **order}, self._child.process.stdin)
            self._child.process.stdin.flush()
            answer: dict[str, Any] = pickle.load(self._answers)
        except (EOFError, BrokenPipeError):
            self._child.process.wait()
            self._child.check()
            raise
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer


def python_of(name: str) -> str:
    """The interpreter that an engine runs on; its environment is installed where it is missing.

    Raises:
        NotInstalledError: it cannot be.
    """
    if name not in PEERS:
        return sys.executable
    environment = Environment("text-" + name.replace(" ", "-"))
    environment.install(PEERS[name], constraints=PEERS[name])
    return environment.python


@contextmanager
def engine(name: str, module: str = "benchmarks.text.worker") -> Iterator[Engine]:
    """Runs an engine until the block ends.

    Raises:
        NotInstalledError: its environment cannot be made.
    """
    read, write = os.pipe()
    command = [python_of(name), "-m", module, name, str(write)]
    log = run_folder("text") / f"{name.replace(' ', '-')}.log"
    with Child(command, log=log, env=_ONE_THREAD, inherit=(write,)) as child, os.fdopen(read, "rb") as answers:
        os.close(write)
        yield Engine(name, child, answers)
