"""The machine during a run: how much of it went to others."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.processes import cpu_seconds

_TICKS = os.sysconf("SC_CLK_TCK")


class Machine:
    """Watches from its making on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._busy, self._stolen = _stat()
        self._own = cpu_seconds(os.getpid())

    def others(self) -> dict[str, float]:
        """Shares of all cores' time that went to processes outside this benchmark, and to other machines of the host."""
        busy, stolen = _stat()
        whole = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        own = cpu_seconds(os.getpid()) - self._own
        return {
            "other processes": max(0.0, busy - self._busy - own) / whole,
            "stolen by the host": (stolen - self._stolen) / whole,
        }


def _stat() -> tuple[float, float]:
    """CPU seconds since the machine's start: busy, and stolen."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS, steal / _TICKS
