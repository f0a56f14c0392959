"""How far a replica is, in memory that it shares with the server: it outlives the replica, and nobody is woken to hear it."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_PACKING, _ON_DEVICE = range(2)
_BYTES = 16


class Progress:
    """The newest batch that was begun, and the newest that came to the device. Batches begin in the order of their numbers.

    Args:
        descriptor: of a file that another process maps too; -1 for memory of this process alone.
    """

    def __init__(self, descriptor: int = -1) -> None:
        self._numbers = memoryview(mmap.mmap(descriptor, _BYTES)).cast("q")

    @classmethod
    @contextmanager
    def shared(cls) -> Iterator[tuple[Progress, int]]:
        """One to share, and the descriptor by which another process maps it, open until the block ends."""
        with _file() as file:
            file.truncate(_BYTES)
            yield cls(file.fileno()), file.fileno()

    @property
    def packing(self) -> int:
        """Number of the newest batch that was begun; 0 before the first."""
        return self._numbers[_PACKING]

    @packing.setter
    def packing(self, number: int) -> None:
        self._numbers[_PACKING] = number

    @property
    def on_device(self) -> int:
        """Number of the newest batch that came to the device; 0 before the first."""
        return self._numbers[_ON_DEVICE]

    @on_device.setter
    def on_device(self, number: int) -> None:
        self._numbers[_ON_DEVICE] = number


def _file() -> IO[bytes]:
    """A file without a name; in memory where there are such, for a container may have no folder that can be written to."""
    return os.fdopen(os.memfd_create("progress"), "w+b") if sys.platform == "linux" else tempfile.TemporaryFile()
