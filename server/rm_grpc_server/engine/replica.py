"""A replica: a scorer in a process of its own, seen from the server's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol, cast

from rm_grpc_server.engine.messages import Message, Ready, Refused, ReplicaSpec, Work, frame, taken
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
        """Gives it a batch; its answer comes to whoever listens, unless it dies."""

    async def listen(self, hear: Callable[[Message], None]) -> None:
        """Has `hear` told what it says, until it is dead.

        Raises:
            Exception: what it says is no message, or `hear` raised.
        """

    def kill(self) -> None:
        """Ends it at once, whatever it does."""

    async def ended(self) -> None:
        """Waits until it is gone and its devices are free."""


class _Line(asyncio.Protocol):
    """The server's end of the socket. Whoever listens is told at once: to be woken would take a turn of the event loop."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._untold: list[Message] = []
        self._hear: Callable[[Message], None] = self._keep
        self._has_news = asyncio.Event()
        self._over = asyncio.Event()
        self._fault: Exception | None = None

    def send(self, message: object) -> None:
        """Sends, unless nobody is there any more."""
        if not self._transport.is_closing():
            self._transport.write(frame(message))

    async def first(self) -> Message | None:
        """The first message; None where there is none before the end."""
        await self._has_news.wait()
        return self._untold.pop(0) if self._untold else None

    async def listen(self, hear: Callable[[Message], None]) -> None:
        """See `Replica`."""
        self._hear = hear
        try:
            while self._untold:
                hear(self._untold.pop(0))
            await self._over.wait()
        finally:
            self._hear = self._keep
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        """Ends it when all is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Ends it at once."""
        self._transport.abort()

    def _keep(self, message: Message) -> None:
        self._untold.append(message)
        self._has_news.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._unread += data
        try:
            for message in taken(self._unread):
                self._hear(message)
        except Exception as error:  # noqa: BLE001 - for whoever listens
            self._fault = error
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        del error
        self._over.set()
        self._has_news.set()


class ReplicaProcess:
    """See `Replica`. The process ends when this one does, however that ends."""

    def __init__(self, spec: ReplicaSpec) -> None:
        self.progress = Progress()
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._line: _Line | None = None

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
        _, self._line = await asyncio.get_running_loop().create_unix_connection(_Line, sock=ours)
        self._line.send(self._spec)
        first = await self._line.first()
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
        if self._line is not None:
            self._line.send(work)

    async def listen(self, hear: Callable[[Message], None]) -> None:
        """See `Replica`."""
        assert self._line is not None
        await self._line.listen(hear)

    def kill(self) -> None:
        """See `Replica`."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its further ranks too
        if self._line is not None:
            self._line.abort()  # so that nobody waits for its end, should something hold it

    async def ended(self) -> None:
        """See `Replica`."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
