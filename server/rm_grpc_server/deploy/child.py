"""`rm-grpc serve` as a child process that never outlives its parent."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rm_grpc_server.errors import StartupError

_TOLD = 4000
"""Characters of the log's end that an error tells."""


class ServerChild:
    """A server of its own, from its start until `stop`.

    Args:
        arguments: of `rm-grpc serve`.
        folder: where its log and its address are written; its own.
    """

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        self._ready = folder / "address"
        self._ready.unlink(missing_ok=True)
        self.log = folder / "log"
        start = [sys.executable, "-m", "rm_grpc_cli", "serve", "--until-stdin-closes", f"--ready-file={self._ready}"]
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                [*start, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )

    def wait(self, seconds: float) -> str:
        """Its address, once it is ready.

        Raises:
            StartupError: it ended, or was not ready in time; with the end of its log.
        """
        end = time.monotonic() + seconds
        while not self._ready.exists():
            if self.process.poll() is not None:
                raise StartupError(f"the server did not start:\n{self._log_end()}")
            if time.monotonic() > end:
                raise StartupError(f"the server was not ready after {seconds:g} s:\n{self._log_end()}")
            time.sleep(0.05)
        return self._ready.read_text()

    def stop(self, seconds: float = 60.0) -> None:
        """Lets it finish what it has accepted; ends it where that takes longer."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-_TOLD:].strip()
