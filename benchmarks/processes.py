"""A child process with all its descendants: its CPU time, holding it still, and its end. Linux only: it reads /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from benchmarks.places import ROOT

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found.extend(children.get(each, ()))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, its living descendants, and those dead ones that were waited for."""
    return sum(sum(map(int, fields[11:15])) for each in tree(pid) if (fields := _stat(each))) / _TICKS


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; the name before them may hold spaces. Empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class ChildFailedError(Exception):
    """A child process ended, or was not ready in time; the message holds the end of its log."""


class Child:
    """A process in a session of its own, whose output goes to a file. Use it with `with`: it does not outlive the block."""

    def __init__(
        self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, inherit: Sequence[int] = ()
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                pass_fds=inherit,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def cpu_seconds(self) -> float:
        """CPU seconds so far, of the whole tree."""
        return cpu_seconds(self.pid)

    def pause(self) -> None:
        """Holds the whole tree still."""
        _signal(tree(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        """Lets the whole tree go on."""
        _signal(tree(self.pid), signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Holds the whole tree still for the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def wait_for(self, file: Path, seconds: float = 300.0) -> str:
        """The content of a file that the process writes when it is ready.

        Raises:
            ChildFailedError: it ended before, or took too long.
        """
        end = time.monotonic() + seconds
        while not file.exists():
            self.check()
            if time.monotonic() > end:
                raise ChildFailedError(f"not ready after {seconds:g} s:\n{self.tail()}")
            time.sleep(0.05)
        return file.read_text()

    def check(self) -> None:
        """Raises where the process has ended.

        Raises:
            ChildFailedError: it has.
        """
        if self.process.poll() is not None:
            raise ChildFailedError(f"ended with status {self.process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:].strip()

    def stop(self) -> None:
        """Ends the whole tree, by force where a minute is not enough."""
        members = tree(self.pid)
        self.resume()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=60)
        _signal([pid for pid in members if _session(pid) == self.pid], signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


def _session(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[3]) if fields else 0


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
