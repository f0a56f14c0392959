"""The other servers: how each is installed, started, asked and read."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.encoder import Encoder, Messages
from benchmarks.peers.environment import Environment
from benchmarks.peers.http_load import is_ready
from benchmarks.peers.infinity import Infinity
from benchmarks.peers.small import Small
from benchmarks.peers.vllm import Vllm
from benchmarks.processes import Child, ChildFailedError
from benchmarks.server import run_folder

_START_SECONDS = 300.0


class Peer(Protocol):
    """Another server."""

    @property
    def name(self) -> str:
        """With its version."""

    @property
    def ready_path(self) -> str:
        """What it answers with 200 once it is ready."""

    def install(self) -> Environment:
        """Installs it once. Raises NotInstalledError."""

    def command(self, environment: Environment, folder: Path, port: int, cores: int) -> Sequence[str]:
        """What starts it, for a checkpoint."""

    def variables(self, cores: int) -> Mapping[str, str]:
        """Environment variables that it needs."""

    def request(self, messages: Messages, encoder: Encoder) -> bytes:
        """A request for the score of a conversation."""

    def score(self, body: bytes) -> float:
        """The raw score in an answer."""


PEER_SERVERS: Mapping[str, Peer] = {
    "vllm": Vllm(),
    "infinity": Infinity(),
    "litserve": Small(
        "LitServe 0.2.19", "litserve==0.2.19", "benchmarks.peers.litserve_child", "/predict", ready_path="/health"
    ),
    "mosec": Small("mosec 0.9.8", "mosec==0.9.8", "benchmarks.peers.mosec_child", "/inference", ready_path="/metrics"),
}


@dataclass(frozen=True, slots=True)
class Started:
    """A server that is ready."""

    peer: Peer
    child: Child
    port: int


@contextmanager
def started(peer: Peer, folder: Path, cores: int) -> Iterator[Started]:
    """Installs a server where needed, and runs it until the block ends.

    Raises:
        NotInstalledError: it cannot be installed.
        ChildFailedError: it does not start.
    """
    environment, port = peer.install(), _free_port()
    command = peer.command(environment, folder, port, cores)
    home = run_folder(environment.folder.name)
    with Child(command, log=home / "log", env=peer.variables(cores)) as child:
        end = time.monotonic() + _START_SECONDS
        while not is_ready(port, peer.ready_path):
            child.check()
            if time.monotonic() > end:
                raise ChildFailedError(f"{peer.name} is not ready after {_START_SECONDS:g} s:\n{child.tail()}")
            time.sleep(0.2)
        yield Started(peer, child, port)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
