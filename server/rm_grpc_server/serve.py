"""From settings to a running server, and down again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

from rm_grpc.addresses import is_loopback
from rm_grpc_server.config import ServerSettings
from rm_grpc_server.engine.devices import Claims
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.engine.model_engine import ModelEngine
from rm_grpc_server.engine.scheduler import Bounds, Scheduler
from rm_grpc_server.engine.text_threads import TextThreads
from rm_grpc_server.engine.trace import Trace
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.opening import Model, limits, open_model
from rm_grpc_server.opening.ensembles import ensemble_options, is_ensemble, open_ensemble
from rm_grpc_server.transport.server import RewardServer

_LOG = logging.getLogger("rm_grpc_server")
_LAST_SECONDS = 2.0
"""For calls to be told that the server ends at once."""


async def run(settings: ServerSettings) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends at once.

    Raises:
        StartupError: the server cannot start as asked.
    """
    loop = asyncio.get_running_loop()
    stop, abandon = asyncio.Event(), asyncio.Event()
    signals = iter((stop, abandon))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: next(signals, abandon).set())
    if settings.until_stdin_closes:
        _watch_stdin(stop)
    claims = Claims()
    models = await _opened(settings, claims, stop)
    async with running(settings, models) as server:
        _announce(server, settings)
        await stop.wait()
        _LOG.info("draining for at most %g s; another signal ends at once", settings.drain_seconds)
        abandoning = asyncio.create_task(_abandoned(abandon, server, models))
        await server.stop(settings.drain_seconds)
    abandoning.cancel()
    _LOG.info("stopped")


async def _abandoned(abandon: asyncio.Event, server: RewardServer, models: Sequence[Model]) -> NoReturn:
    """Ends the process once that is asked for, whatever its replicas do."""
    await abandon.wait()
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(server.stop(0), _LAST_SECONDS)
    finally:
        for model in models:
            model.pool.kill()
        _exit_at_once("ended before everything was over", 1)


async def _opened(settings: ServerSettings, claims: Claims, stop: asyncio.Event) -> list[Model]:
    stopped = asyncio.ensure_future(stop.wait())
    models: list[Model] = []
    try:
        for model in settings.models:
            if is_ensemble(model):
                ensemble_options(model, settings.models)  # before others are loaded for nothing
        for model in settings.models:
            if is_ensemble(model):
                continue
            opening = asyncio.ensure_future(open_model(model, settings, claims))
            waiting: set[asyncio.Future[Any]] = {opening, stopped}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                _exit_at_once("stopped before a model was loaded", 0)
            models.append(opening.result())
    except BaseException:
        await asyncio.gather(*(model.pool.close() for model in models))
        raise
    finally:
        stopped.cancel()
    return models


def _exit_at_once(told: str, status: int) -> NoReturn:
    """Ends the process without waiting for threads that may be loading or scoring for long."""
    _LOG.warning(told)
    logging.shutdown()
    os._exit(status)


@asynccontextmanager
async def running(settings: ServerSettings, models: Sequence[Model]) -> AsyncIterator[RewardServer]:
    """A server of opened models, listening; whatever is in work when the block ends is answered with an error."""
    text_threads = TextThreads(settings.text_threads)
    trace = Trace(settings.trace_file) if settings.trace_file else None
    engines: dict[str, Engine] = {model.info.name: _engine(model, settings, text_threads, trace) for model in models}
    engines |= {model.served_name: open_ensemble(model, settings, engines) for model in settings.models if is_ensemble(model)}
    try:
        server = RewardServer(engines, limits(settings, 0), settings)
        await server.start()
        yield server
        await server.stop(0)
    finally:
        for engine in engines.values():
            await engine.close()
        text_threads.close()
        if trace is not None:
            trace.close()


def _engine(model: Model, settings: ServerSettings, text_threads: TextThreads, trace: Trace | None) -> ModelEngine:
    scheduler = Scheduler[Entry](
        shape=model.shape,
        bounds=Bounds(settings.queue_items, settings.queue_tokens),
        max_wait=settings.batch_wait_seconds,
        max_age=settings.max_age_seconds,
    )
    return ModelEngine(
        info=model.info,
        reader=model.text,
        pool=model.pool,
        text_threads=text_threads,
        scheduler=scheduler,
        stores_prefixes=model.stores_prefixes,
        normalization=model.normalization,
        max_bytes=settings.queue_bytes,
        recovery_seconds=settings.recovery_seconds,
        trace=trace,
    )


def _watch_stdin(stop: asyncio.Event) -> None:
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if not os.read(stdin, 4096):
            loop.remove_reader(stdin)
            stop.set()

    try:
        loop.add_reader(stdin, read)
    except OSError as error:
        raise ConfigError("until_stdin_closes: standard input must be a pipe or a terminal, and it is a file") from error


def _announce(server: RewardServer, settings: ServerSettings) -> None:
    asked = ["TLS"] * bool(settings.tls_cert_file) + ["clients' certificates"] * bool(settings.tls_client_ca_file)
    has_tokens = bool(settings.token_file or settings.token_env)
    asked += ["a token"] * has_tokens
    models = ", ".join(model.served_name for model in settings.models)
    _LOG.info("serving %s on %s, with %s", models, server.address, ", ".join(asked) or "no encryption and no token")
    if server.http_address:
        url = f"{'https' if settings.tls_cert_file else 'http'}://{server.http_address}"
        _LOG.info("serving HTTP on %s, described in %s/openapi.json", url, url)
    for address in filter(None, (server.address, server.http_address)):
        if not (has_tokens or settings.tls_client_ca_file or is_loopback(address)):
            _LOG.warning("whoever reaches %s may use it; token_file or tls_client_ca_file would ask who they are", address)
    if settings.ready_file is not None:
        partial = settings.ready_file.with_name(settings.ready_file.name + ".partial")
        partial.write_text("\n".join(filter(None, (server.address, server.http_address))))
        os.replace(partial, settings.ready_file)
