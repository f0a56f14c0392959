"""Real servers for the cases: each kind is started once, when a case first asks for it, and kept while it is as it was."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

from conformance.failures import CaseFailedError
from conformance.newer import Newer
from conformance.proxy import Making, Proxy
from conformance.referee import Referee
from conformance.unreliable import Cancelling, Unreliable

TESTS = Path(__file__).parents[1]
_START_SECONDS = 120.0
_SCORER: dict[str, Any] = {
    "name": "words",
    "scorer": {"kind": "external", "module": "conformance.scorer:ByResponse", "concurrency": 64, "attributes": ["helpful"]},
}


_PROXIES: dict[str, Making] = {"newer": Newer, "referee": Referee, "unreliable": Unreliable, "cancelling": Cancelling}


class Server(Protocol):
    """What a case may ask of a server."""

    address: str

    @property
    def is_well(self) -> bool:
        """Whether the next case may have it."""

    def act(self, what: str) -> None:
        """Does what a step says."""

    def close(self) -> None:
        """Ends it."""


class ServerProcess:
    """`rm-grpc serve` on a port that it keeps when it is started again.

    Attributes:
        address: where.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True)
        self._ready, self._log, self._config = folder / "ready", folder / "log", folder / "server.yaml"
        self.address = f"127.0.0.1:{free_port()}"
        given = {"models": [_SCORER], **settings, "listen": self.address, "ready_file": str(self._ready)}
        given["until_stdin_closes"] = True  # it must not outlive a run that is cut off
        self._config.write_text(yaml.safe_dump(given))
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self.start()

    @property
    def is_well(self) -> bool:
        """See `Server`."""
        return self._process is not None and self._process.poll() is None and not self._stopped

    def act(self, what: str) -> None:
        """See `Server`."""
        acts: dict[str, Callable[[], None]] = {
            "kill": self.kill,
            "drain": self.drain,
            "start": self.start,
            "stop": lambda: self._stop(stopped=True),
            "continue": lambda: self._stop(stopped=False),
        }
        acts[what]()

    def start(self) -> None:
        """Starts it, after the end of the one before, and waits until it serves."""
        if self._process is not None:
            self._gone(60)
        self._ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "rm_grpc_cli", "serve", f"--config={self._config}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=log, env={**os.environ, "PYTHONPATH": str(TESTS)}
            )
        end = time.monotonic() + _START_SECONDS
        while not self._ready.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                raise CaseFailedError(f"the server did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it without a word."""
        assert self._process is not None
        self._process.kill()
        self._gone(10)

    def drain(self) -> None:
        """Asks it to go, and does not wait."""
        assert self._process is not None
        self._process.terminate()

    def close(self) -> None:
        """See `Server`."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGINT)  # twice: whatever it still works on, nobody waits for
        try:
            self._gone(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def _gone(self, within: float) -> None:
        assert self._process is not None
        self._process.wait(within)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _stop(self, *, stopped: bool) -> None:
        assert self._process is not None
        self._stopped = stopped
        self._process.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)


class Nobody:
    """A port that is taken, and where nobody listens."""

    is_well = True

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def act(self, what: str) -> None:
        """See `Server`."""
        raise ValueError(f"there is no server to {what}")

    def close(self) -> None:
        """See `Server`."""
        self._socket.close()


class Servers:
    """All servers of a run.

    Args:
        folder: for their files.
        kinds: their settings by name, as the table of cases has them.
        expand: puts values in the place of names in a setting.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, Mapping[str, Any]], expand: Callable[[Any], Any]) -> None:
        self._folder = folder
        self._kinds = kinds
        self._expand = expand
        self._running: dict[str, Server] = {}
        self._count = 0

    def get(self, name: str) -> Server:
        """The server of that name, running."""
        if name not in self._running:
            self._running[name] = self._start(name)
        return self._running[name]

    def give_back(self, name: str, *, as_it_was: bool) -> None:
        """Ends a server that the next case may not have, and what stands before and behind it."""
        server = self._running.get(name)
        if server is None or (as_it_was and server.is_well):
            return
        behind = self._kinds.get(name, {}).get("in_front_of", name)
        for kind, settings in self._kinds.items():
            if behind in (kind, settings.get("in_front_of")) and kind in self._running:
                self._running.pop(kind).close()
        if name in self._running:
            self._running.pop(name).close()

    def close(self) -> None:
        """Ends all of them."""
        for server in reversed(self._running.values()):
            server.close()
        self._running.clear()

    def _start(self, name: str) -> Server:
        if name == "none":
            return Nobody()
        settings = self._expand(self._kinds[name])
        if "in_front_of" in settings:
            return Proxy(self.get(settings["in_front_of"]).address, _PROXIES[settings["proxy"]])
        self._count += 1
        return ServerProcess(self._folder / f"{name}-{self._count}", settings)


def free_port() -> int:
    """A port that is free now; a server that is started again must have the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
