"""What is read from files, and read again once these were replaced."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class Reloaded(Generic[_T]):
    """A value of files. Replacing them is safe in any order and at any speed: what cannot be used is told in the log, once, and
    the value stays as it was.

    Args:
        files: that it depends on.
        load: makes it; raises OSError or ValueError where it cannot.
        what: it is, for the log.

    Raises:
        OSError, ValueError: it cannot be made.
    """

    def __init__(self, files: Sequence[Path], load: Callable[[], _T], what: str) -> None:
        self._files = files
        self._load = load
        self._what = what
        self._lock = threading.Lock()
        self._fault = ""
        self._seen = self._stamp()
        self._value = load()

    def current(self) -> _T:
        """The value as the files have it now. Any thread may ask."""
        with self._lock:
            try:
                if (now := self._stamp()) != self._seen:
                    self._seen = now
                    self._value = self._load()
                    self._fault = ""
                    _LOG.info("%s: replaced", self._what)
            except (OSError, ValueError) as error:
                if str(error) != self._fault:
                    self._fault = str(error)
                    _LOG.warning("%s: replaced by what cannot be used, so that the one before stays: %s", self._what, error)
            return self._value

    def _stamp(self) -> list[tuple[int, int, int]]:
        """Of each file its inode, size and time of change: what differs once it was replaced."""
        found = [os.stat(file) for file in self._files]
        return [(one.st_ino, one.st_size, one.st_mtime_ns) for one in found]
