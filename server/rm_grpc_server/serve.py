"""From settings to a running server, and down again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from rm_grpc.types import Limits, ModelInfo
from rm_grpc_server.config import ModelSettings, ServerSettings
from rm_grpc_server.engine.model_engine import ModelEngine, Reader
from rm_grpc_server.engine.queue import TokenBudgetQueue
from rm_grpc_server.engine.replica import ThreadReplica
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.models.checkpoint import open_checkpoint
from rm_grpc_server.presets import presets, resolve
from rm_grpc_server.scoring.packed_scorer import PackedScorer
from rm_grpc_server.scoring.protocols import ReplicaScorer
from rm_grpc_server.scoring.registry import load_scorer
from rm_grpc_server.text.pipeline import TextPipeline
from rm_grpc_server.text.tokenizer import TokenizerFiles
from rm_grpc_server.transport.server import RewardServer

_LOG = logging.getLogger("rm_grpc_server")
_CPU_BATCH_TOKENS, _GPU_BATCH_TOKENS = 512, 16_384


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model: what it is, how it reads, and what scores its batches."""

    info: ModelInfo
    reader: Reader
    scorer: ReplicaScorer


def load_model(settings: ModelSettings, server: ServerSettings) -> Model:
    """Loads one model and proves that it gives its reference's numbers. Blocking.

    Raises:
        StartupError: the model cannot be served rightly.
    """
    resolved, origin = resolve(settings)
    _LOG.info("loading %s from %s (%s)", resolved.served_name, resolved.path, origin)
    checkpoint = open_checkpoint(resolved.path, resolved.revision)
    files = TokenizerFiles(checkpoint.folder)
    scorer = load_scorer(checkpoint, resolved)
    text = TextPipeline(
        files, resolved.text, model_max_length=checkpoint.max_length, vocabulary_size=scorer.backbone.vocabulary_size
    )
    told = {
        "text": {**resolved.text.model_dump(mode="json"), "max_length": text.max_length},
        "special_tokens": files.special_tokens,
        "scorer": dict(scorer.settings),
    }
    info = ModelInfo(
        name=resolved.served_name,
        source=checkpoint.source,
        revision=checkpoint.revision,
        scorer_kind=scorer.kind,
        architecture=checkpoint.architecture,
        attribute_names=scorer.attribute_names,
        dtype=scorer.backbone.dtype,
        device=str(scorer.backbone.device),
        weights_digest=checkpoint.digest(),
        tokenizer_digest=files.digest,
        template_digest=text.template_digest,
        encoder=text.encoder.name,
        settings_json=json.dumps(told, sort_keys=True),
        settings_source=origin,
        notes=(*scorer.backbone.notes, *text.notes(), *_preset_notes(resolved)),
        limits=_limits(server, text.max_length),
    )
    packed = PackedScorer(scorer, torch_threads=server.torch_threads)
    difference = packed.check_against_reference()
    _LOG.info("%s: packed scores equal the one-at-a-time reference within %.1e (%s)", info.name, difference, info.dtype)
    return Model(replace(info, model_digest=_digest(info)), Reader(text, scorer), packed)


def _preset_notes(settings: ModelSettings) -> tuple[str, ...]:
    preset = presets().get(settings.preset or settings.path)
    return (preset.note,) if preset and preset.note else ()


def _digest(info: ModelInfo) -> str:
    parts = (info.weights_digest, info.tokenizer_digest, info.template_digest, info.settings_json, info.dtype)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _limits(settings: ServerSettings, max_length: int) -> Limits:
    return Limits(max_length, settings.max_message_bytes, settings.window_items, settings.window_bytes)


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
    models = await _loaded(settings, stop)
    async with running(settings, models) as server:
        _announce(server.address, settings)
        await stop.wait()
        _LOG.info("draining for at most %g s; another signal ends at once", settings.drain_seconds)
        draining = asyncio.create_task(server.stop(settings.drain_seconds))
        abandoned = asyncio.create_task(abandon.wait())
        await asyncio.wait([draining, abandoned], return_when=asyncio.FIRST_COMPLETED)
        abandoned.cancel()
        if not draining.done():
            await server.stop(0)
    if abandon.is_set():
        _exit_at_once("ended before all accepted items were scored", 1)
    _LOG.info("stopped")


async def _loaded(settings: ServerSettings, stop: asyncio.Event) -> list[Model]:
    loop = asyncio.get_running_loop()
    stopped = asyncio.ensure_future(stop.wait())
    models: list[Model] = []
    for model in settings.models:
        loading = loop.run_in_executor(None, load_model, model, settings)
        waiting: set[asyncio.Future[Any]] = {loading, stopped}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            _exit_at_once("stopped before a model was loaded", 0)
        models.append(loading.result())
    stopped.cancel()
    return models


def _exit_at_once(told: str, status: int) -> NoReturn:
    """Ends the process without waiting for threads that may be loading or scoring for long."""
    _LOG.warning(told)
    logging.shutdown()
    os._exit(status)


@asynccontextmanager
async def running(settings: ServerSettings, models: Sequence[Model]) -> AsyncIterator[RewardServer]:
    """A server of loaded models, listening; whatever is in work when the block ends is answered with an error."""
    text_threads = ThreadPoolExecutor(settings.text_threads, thread_name_prefix="text")
    engines = {model.info.name: _engine(model, settings, text_threads) for model in models}
    try:
        server = RewardServer(engines, _limits(settings, 0), settings.listen)
        await server.start()
        yield server
        await server.stop(0)
    finally:
        for engine in engines.values():
            await engine.close()
        text_threads.shutdown(wait=False, cancel_futures=True)


def _engine(model: Model, settings: ServerSettings, text_threads: ThreadPoolExecutor) -> ModelEngine:
    budget = settings.max_batch_tokens or (_CPU_BATCH_TOKENS if model.info.device == "cpu" else _GPU_BATCH_TOKENS)
    return ModelEngine(
        info=model.info,
        reader=model.reader,
        replica=ThreadReplica(model.scorer, model.info.name),
        text_threads=text_threads,
        queue=TokenBudgetQueue(max_items=settings.queue_items, max_tokens=settings.queue_tokens),
        max_batch_tokens=budget,
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


def _announce(address: str, settings: ServerSettings) -> None:
    _LOG.info("serving %s on %s", ", ".join(model.served_name for model in settings.models), address)
    if settings.ready_file is not None:
        partial = settings.ready_file.with_name(settings.ready_file.name + ".partial")
        partial.write_text(address)
        os.replace(partial, settings.ready_file)
