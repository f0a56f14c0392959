"""The server: service, health and reflection over gRPC on one port, and over HTTP on another where that is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rm_grpc.types import Limits
from rm_grpc.v1 import reward_service_pb2, reward_service_pb2_grpc
from rm_grpc_server.config import ServerSettings
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.errors import StartupError
from rm_grpc_server.transport.calls import Calls
from rm_grpc_server.transport.door import Certificates, Tokens
from rm_grpc_server.transport.door.interceptor import Door
from rm_grpc_server.transport.drain import Drain
from rm_grpc_server.transport.servicer import RewardServicer

if TYPE_CHECKING:
    from rm_grpc_server.transport.http.gateway import HttpGateway

_FLUSH_SECONDS = 0.5
"""For the last answers to leave."""
SERVICE = reward_service_pb2.DESCRIPTOR.services_by_name["RewardService"].full_name


class RewardServer:
    """Listens from `start` to `stop`.

    Attributes:
        address: host and port, with the port that was really taken.
        http_address: the same of HTTP; empty where it is not served.
        engines: by model name.

    Args:
        limits: what is taken from one caller.
        settings: where it listens, and who may come in.

    Raises:
        StartupError: an address cannot be taken, or what it is encrypted with cannot be used.
    """

    def __init__(self, engines: Mapping[str, Engine], limits: Limits, settings: ServerSettings) -> None:
        self.engines = engines
        self._drain = Drain()
        certificates, tokens = Certificates.of(settings), Tokens.of(settings)
        calls = Calls(engines, limits, self._drain)
        self._server = grpc.aio.server(options=_options(limits.max_message_bytes), interceptors=[Door(tokens)])
        reward_service_pb2_grpc.add_RewardServiceServicer_to_server(RewardServicer(calls), self._server)
        self._health_changed = asyncio.Event()
        self._health_teller: asyncio.Task[None] | None = None
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        listen = settings.listen
        try:
            if certificates is None:
                port = self._server.add_insecure_port(listen)
            else:
                port = self._server.add_secure_port(listen, certificates.grpc_credentials())
        except RuntimeError as error:
            raise StartupError(f"listen: {listen} cannot be taken: {error}") from error
        self.address = listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
        self._gateway: HttpGateway | None = None
        if settings.http:
            from rm_grpc_server.transport.http.bodies import BodyBudget
            from rm_grpc_server.transport.http.gateway import HttpGateway  # half a second, for those who ask for it
            from rm_grpc_server.transport.http.scoring import HttpScoring

            scoring = HttpScoring(calls, BodyBudget(limits.max_message_bytes, settings.queue_bytes), tokens)
            self._gateway = HttpGateway(scoring, settings.http, certificates, settings.origins)
        self.http_address = self._gateway.address if self._gateway is not None else ""

    async def start(self) -> None:
        """Begins to serve, and says so."""
        await self._server.start()
        if self._gateway is not None:
            await self._gateway.start()
        for engine in self.engines.values():
            engine.on_health = lambda _: self._health_changed.set()
        await self._tell_health()
        self._health_teller = asyncio.create_task(self._keep_telling_health())

    async def _keep_telling_health(self) -> None:
        while True:
            await self._health_changed.wait()
            self._health_changed.clear()
            await self._tell_health()

    async def _tell_health(self) -> None:
        """A model is healthy while a replica of it is up; the server is while all of its models are."""
        healthy = {f"models/{name}": engine.is_healthy for name, engine in self.engines.items()}
        for service, is_healthy in (("", all(healthy.values())), (SERVICE, all(healthy.values())), *healthy.items()):
            status = health_pb2.HealthCheckResponse.SERVING if is_healthy else health_pb2.HealthCheckResponse.NOT_SERVING
            await self._health.set(service, status)

    async def stop(self, grace: float) -> None:
        """Drains: health first, then the streams are told, then what is in work is finished, for `grace` seconds at most."""
        if self._health_teller is not None:
            self._health_teller.cancel()
        await self._health.enter_graceful_shutdown()
        self._drain.begin()
        # Not the server's own grace: an open health watch would use up all of it.
        await self._drain.idle(grace)
        if self._gateway is not None:
            await self._gateway.stop()
        await self._server.stop(min(grace, _FLUSH_SECONDS))


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.so_reuseport", 0),  # or a second server on the port silently takes a share of the calls
        ("grpc.keepalive_time_ms", 30_000),  # a client that died without a word is noticed
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]
