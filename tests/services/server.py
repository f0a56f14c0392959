"""A real server in this process, on a thread and a port of its own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from rm_grpc_server.config import ServerSettings
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.opening import Model
from rm_grpc_server.serve import running
from rm_grpc_server.transport.server import RewardServer


class Servable(Protocol):
    """What a server can be made of: a model that knows how it is served."""

    def served(self, server: ServerSettings) -> Model:
        """Ready for a server on the running event loop, its replicas not yet started."""


class ServerThread:
    """Serves loaded models until the block ends.

    Attributes:
        address: where.
        http_address: where HTTP is served, if it is.
        models: what it serves, with the pools of their replicas.
    """

    def __init__(self, models: Sequence[Servable], /, **settings: object) -> None:
        self._models = models
        self._settings = ServerSettings.model_validate({"listen": "127.0.0.1:0", **settings})
        self._loop = asyncio.new_event_loop()
        self.models: list[Model] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: RewardServer | None = None
        self.address = self.http_address = ""

    def __enter__(self) -> ServerThread:
        self._thread.start()
        self._server = self.call(self._enter())
        self.address, self.http_address = self._server.address, self._server.http_address
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.call(self._block.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _enter(self) -> RewardServer:
        models = [model.served(self._settings) for model in self._models]
        for model in models:
            await model.pool.start()
        self.models = models
        self._block = running(self._settings, models)
        return await self._block.__aenter__()

    @property
    def engines(self) -> dict[str, Engine]:
        """What it scores with, by model name; to be used on its loop."""
        assert self._server is not None
        return dict(self._server.engines)

    def drain(self, grace: float) -> None:
        """Begins to drain, as SIGTERM does, and waits for its end."""
        assert self._server is not None
        self.call(self._server.stop(grace))

    def call(self, work):  # type: ignore[no-untyped-def]  # any coroutine, its own result
        """Runs a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)


class ServerProcess:
    """`rm-grpc serve` as a process of its own, of the embedded logit model unless the arguments say otherwise."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self._ready = folder / "address"
        self._ready.unlink(missing_ok=True)
        given = " ".join(arguments)
        defaults = [] if "--model" in given or "--config" in given else ["--model=embedded:arithmetic-logit"]
        defaults += [] if "--listen" in given else ["--listen=127.0.0.1:0"]
        command = [sys.executable, "-m", "rm_grpc_cli", "serve", f"--ready-file={self._ready}", *defaults, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd)

    def wait(self) -> str:
        """Its address, once it is ready."""
        end = time.monotonic() + 120
        while not self._ready.exists():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.05)
        return self._ready.read_text()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> str:
        """Ends it, if it still runs, and gives its log."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.communicate(timeout=60)[1]
