"""A replica: a scorer in a process of its own, seen from the server's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from typing import Protocol, cast

from rm_grpc_server.engine.messages import LENGTH, Message, Ready, Refused, ReplicaSpec, Work, frame
from rm_grpc_server.engine.progress import Progress
from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.scoring.protocols import ScorerDescription

_MALLOC = ":".join(
    f"glibc.malloc.{name}"
    for name in ("mmap_threshold=1073741824", "trim_threshold=17179869184", "top_pad=268435456", "arena_max=1")
)
"""Keeps the memory of one forward pass for the next instead of giving it back to the system; see benchmarks/. All threads take
it from one arena, so that the thread of the forward passes has what was reserved while the model was loaded."""

_LAST_WORDS = 5.0
"""Seconds in which a replica that gave up must end by itself."""


class Replica(Protocol):
    """Something that scores batches and may die."""

    @property
    def progress(self) -> Progress:
        """Which batches it has begun; still there when it is dead."""

    async def start(self) -> ScorerDescription:
        """Makes it ready.

        Raises:
            ModelLoadError: it cannot score what it was asked to.
        """

    def send(self, work: Work) -> None:
        """Gives it a batch; it answers in `receive`, unless it dies."""

    async def receive(self) -> Message | None:
        """What it says next; None once it is dead."""

    def kill(self) -> None:
        """Ends it at once, whatever it does."""

    async def ended(self) -> None:
        """Waits until it is gone and its devices are free."""


class ReplicaProcess:
    """See `Replica`. The process ends when this one does, however that ends."""

    def __init__(self, spec: ReplicaSpec) -> None:
        self.progress = Progress()
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def pid(self) -> int | None:
        """The process, once there is one."""
        return self._process.pid if self._process else None

    async def start(self) -> ScorerDescription:
        """See `Replica`."""
        ours, theirs = socket.socketpair()
        environment = {"GLIBC_TUNABLES": _MALLOC} | os.environ | dict(self._spec.environment)
        # Not multiprocessing: it would run the caller's __main__ again. A session of its own keeps the terminal's Ctrl-C away.
        with Progress.shared() as (self.progress, shared):
            self._process = subprocess.Popen(  # noqa: ASYNC220 - asyncio's own loses children that are killed while they die
                [sys.executable, "-m", "rm_grpc_server.engine.worker", str(theirs.fileno()), str(shared)],
                pass_fds=[theirs.fileno(), shared],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )
        theirs.close()
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=2**20)
        self._writer.write(frame(self._spec))
        first = await self.receive()
        if isinstance(first, Ready):
            return first.description
        ending = asyncio.ensure_future(self.ended())
        await asyncio.wait([ending], timeout=_LAST_WORDS)
        self.kill()
        await ending
        if isinstance(first, Refused):
            raise ModelLoadError(first.message)
        raise ModelLoadError(f"a replica ended with status {self._process.returncode} before it was ready; its log tells why")

    def send(self, work: Work) -> None:
        """See `Replica`."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(frame(work))

    async def receive(self) -> Message | None:
        """See `Replica`."""
        assert self._reader is not None
        try:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            return cast("Message", pickle.loads(await self._reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def kill(self) -> None:
        """See `Replica`."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its further ranks too
        if self._writer is not None:
            self._writer.transport.abort()  # so that nobody waits for its end, should something hold it

    async def ended(self) -> None:
        """See `Replica`."""
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
