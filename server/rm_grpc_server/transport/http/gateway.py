"""The HTTP server, on the event loop of the gRPC one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn

from rm_grpc_server.errors import StartupError
from rm_grpc_server.transport.door import Certificates
from rm_grpc_server.transport.http.app import build_app
from rm_grpc_server.transport.http.scoring import HttpScoring

_FLUSH_SECONDS = 1
"""For the last answers to leave, once nothing is in work."""


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers: this process has one owner of its end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        yield


class HttpGateway:
    """Listens from `start` to `stop`.

    Attributes:
        address: host and port, with the port that was really taken.

    Args:
        listen: host and port.
        certificates: what it is encrypted with; None for plain HTTP.
        origins: of web pages that may use it.

    Raises:
        StartupError: the address cannot be taken.
    """

    def __init__(
        self, scoring: HttpScoring, listen: str, certificates: Certificates | None = None, origins: Sequence[str] = ()
    ) -> None:
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        try:
            family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
            self._socket = socket.create_server((host, int(port)), family=family, backlog=2048)
            # Its connections have no protocol number, without which asyncio leaves Nagle's algorithm on: 40 ms an answer.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, ValueError, OverflowError) as error:
            raise StartupError(f"http: {listen} cannot be taken: {error}") from error
        self.address = f"{listen.rpartition(':')[0]}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            build_app(scoring, origins),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_FLUSH_SECONDS,
            timeout_keep_alive=75,
        )
        config.load()
        if certificates is not None:
            config.ssl = certificates.ssl_context()
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to serve."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        if self._serving.done():
            self._serving.result()
            raise StartupError(f"http: nothing listens on {self.address}")

    async def stop(self) -> None:
        """Ends it; what is in work should be over by then."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        self._socket.close()
