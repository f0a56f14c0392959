"""One server on one node, started again whenever it ends."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rm_grpc_server.deploy.child import ServerChild

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a server that ended is started again, doubled each time."""
_STEADY_SECONDS = 120.0
"""A server that was up for so long begins anew with the shortest pause."""


class ServerNode:
    """A server that lasts: on the same port after each start.

    Args:
        settings: of the server, as its YAML file has them.
        listen: host of this node that others reach, and the port; 0 takes a free one.
        start_seconds: how long it may take to load its models.

    Raises:
        StartupError: it cannot start the first time.
    """

    def __init__(self, settings: Mapping[str, Any], *, listen: str, start_seconds: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rm-grpc-")
        self._settings = json.dumps(dict(settings))
        self._listen = listen
        self._start_seconds = start_seconds
        self._is_stopping = threading.Event()
        self._child = self._begun()
        try:
            self._listen = self._child.wait(start_seconds)
        except BaseException:
            self._child.stop(0)
            self._folder.cleanup()
            raise
        self._keeper = threading.Thread(target=self._keep, name="rm-grpc-keeper", daemon=True)
        self._keeper.start()

    @property
    def address(self) -> str:
        """host:port of the server."""
        return self._listen

    @property
    def pid(self) -> int:
        """The process of the server."""
        return self._child.process.pid

    def stop(self) -> None:
        """Lets the server finish what it has accepted, and ends it for good."""
        self._is_stopping.set()
        self._child.stop()
        self._keeper.join()
        self._folder.cleanup()

    def _begun(self) -> ServerChild:
        folder = Path(self._folder.name)
        folder.mkdir(exist_ok=True)  # somebody may have cleaned up
        config = folder / "server.yaml"
        config.write_text(self._settings)  # JSON is YAML
        return ServerChild([f"--config={config}", f"--listen={self._listen}"], folder)

    def _keep(self) -> None:
        pause, started = _FIRST_PAUSE, time.monotonic()
        while not self._is_stopping.is_set():
            self._child.process.wait()
            pause = _FIRST_PAUSE if time.monotonic() - started > _STEADY_SECONDS else min(2 * pause, _LONGEST_PAUSE)
            if self._is_stopping.wait(pause):
                return
            _LOG.warning("the server on %s ended; it is started again", self._listen)
            started = time.monotonic()
            try:
                self._child = self._begun()
                if self._is_stopping.is_set():
                    self._child.stop()
                self._child.wait(self._start_seconds)
            except Exception:  # noqa: BLE001 - whatever it is, the next attempt may do better
                _LOG.exception("the server on %s does not start", self._listen)
                self._child.stop(0)
