"""A virtual environment for each other server, so that no server's requirements meet another's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.places import PEERS

TORCH = "torch==2.13.0"
"""The version that this project runs on too."""


class NotInstalledError(Exception):
    """The server cannot be installed here; the message says why."""


class Environment:
    """A virtual environment under build/peers.

    Attributes:
        folder: where it is.
    """

    def __init__(self, name: str) -> None:
        self.folder = PEERS / name

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return next((self.folder / "lib").glob("python3*")) / "site-packages"

    def install(
        self, requirements: Sequence[str], *, constraints: Sequence[str], then: Callable[[Environment], None] | None = None
    ) -> None:
        """Installs once; a later call finds it done.

        Args:
            constraints: versions that hold for whatever the requirements pull in, each also installed first.
            then: what is left to mend after it.

        Raises:
            NotInstalledError: pip could not do it.
        """
        done, wanted = self.folder / "installed", "\n".join([*constraints, *requirements])
        if done.exists() and done.read_text() == wanted:
            return
        done.unlink(missing_ok=True)
        self._run([sys.executable, "-m", "venv", str(self.folder)])
        pinned = self.folder / "constraints.txt"
        pinned.write_text("\n".join(constraints) + "\n")
        # The constraints first: where pip finds the CPU build of torch, no requirement then pulls in another.
        self.pip("install", "-c", str(pinned), *constraints)
        self.pip("install", "-c", str(pinned), *requirements)
        if then is not None:
            then(self)
        done.write_text(wanted)

    def pip(self, *arguments: str) -> None:
        """Runs its pip.

        Raises:
            NotInstalledError: pip failed.
        """
        self._run([self.python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
            raise NotInstalledError(" ".join(lines[-3:]) or f"{command[0]} ended with status {done.returncode}")
