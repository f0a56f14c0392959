"""A program under test: its standard input and output, line by line, and what it costs."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.failures import CaseFailedError
from conformance.matching import read_line


class Program:
    """A running program; kill it when the case is over.

    Attributes:
        reading: set while its output is read.
        taken: lines that it has taken, or that wait in the pipe before it.
    """

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by kill
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
        )
        self._to_write: queue.SimpleQueue[Iterable[bytes] | None] = queue.SimpleQueue()
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._seen: list[bytes] = []
        self.reading = threading.Event()
        self.reading.set()
        self.taken = 0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()

    def send(self, lines: Iterable[bytes]) -> None:
        """Writes lines while the program reads, without waiting for it."""
        self._to_write.put(lines)

    def finish(self) -> None:
        """Closes its standard input, once everything is written."""
        self._to_write.put(None)

    def next_line(self, within: float) -> dict[str, Any]:
        """The next line of its output.

        Raises:
            CaseFailedError: none came in time, or it is no JSON.
        """
        line = self._next(within)
        if line is None:
            raise CaseFailedError(f"its output ended, where another line is expected{self.complaint()}")
        return read_line(line)

    def quiet(self, seconds: float) -> None:
        """Waits so long.

        Raises:
            CaseFailedError: a line came meanwhile.
        """
        with contextlib.suppress(queue.Empty):
            line = self._lines.get(timeout=seconds)
            raise CaseFailedError(f"a line came too early: {(line or b'the end of its output')[:300]!r}{self.complaint()}")

    def end(self, within: float) -> int:
        """Its exit status, once its output has ended.

        Raises:
            CaseFailedError: another line came, or it goes on.
        """
        limit = time.monotonic() + within
        if (line := self._next(within)) is not None:
            raise CaseFailedError(f"a line too many: {line[:300]!r}")
        try:
            return self._process.wait(max(0.1, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise CaseFailedError(f"it closed its output, and still runs after {within:g} s") from None

    def complaint(self) -> str:
        """The end of its standard error, for the message of a failure."""
        said = self.stderr().decode(errors="replace").strip()
        return f"; on standard error: {said[-1500:]}" if said else ""

    def stderr(self) -> bytes:
        """All of its standard error so far."""
        return os.pread(self._stderr.fileno(), 2**24, 0)

    def stdout(self) -> bytes:
        """All of its output so far that was taken."""
        return b"".join(self._seen)

    def peak_megabytes(self) -> float:
        """The most memory that it and its children have had, each at its own time."""
        return sum(map(_peak_kilobytes, _tree(self._process.pid))) / 1000

    def kill(self) -> None:
        """Ends it and its children, if they still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._to_write.put(None)
        self.reading.set()
        for thread in self._threads:
            thread.join(10)
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        self._stderr.close()

    def _next(self, within: float) -> bytes | None:
        try:
            line = self._lines.get(timeout=within)
        except queue.Empty:
            raise CaseFailedError(f"no line came within {within:g} s{self.complaint()}") from None
        if line is not None:
            self._seen.append(line)
        return line

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError):  # it ended, or does not want more: its output tells
            while (lines := self._to_write.get()) is not None:
                for line in lines:
                    stdin.write(line + b"\n")
                    stdin.flush()
                    self.taken += 1
            stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while self.reading.wait() and (line := self._process.stdout.readline()):
            self._lines.put(line)
        self._lines.put(None)


def _tree(pid: int) -> list[int]:
    """A process and what descends from it."""
    found = [pid]
    for one in found:
        for tasks in Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, tasks.read_text().split())
    return found


def _peak_kilobytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
