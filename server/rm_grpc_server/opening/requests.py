"""Models that take whole items: judges and external modules. They need no checkpoint, and mostly no device."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from rm_grpc.types import ModelInfo
from rm_grpc_server.config import ModelSettings, ServerSettings
from rm_grpc_server.engine.devices import CPU, Claims, plan_replicas, visible
from rm_grpc_server.engine.messages import ReplicaSpec
from rm_grpc_server.engine.pool import Pool
from rm_grpc_server.engine.replica import ReplicaProcess
from rm_grpc_server.engine.scheduler import BatchShape
from rm_grpc_server.errors import ConfigError, StartupError
from rm_grpc_server.opening.model import Model, limits, settings_json, vigilance, with_digest
from rm_grpc_server.presets import OWN_SETTINGS
from rm_grpc_server.scoring.packing import ReplicaArguments, RequestLoad
from rm_grpc_server.scoring.protocols import ScorerDescription
from rm_grpc_server.scoring.registry import request_load
from rm_grpc_server.text.requests import FINGERPRINT, RequestReader

_LOG = logging.getLogger(__name__)
_FACTORY = "rm_grpc_server.scoring.registry:load_requests"


async def open_requests(settings: ModelSettings, server: ServerSettings, claims: Claims, gpus: int) -> Model:
    """Starts the replicas of a scorer of whole items.

    Args:
        gpus: how many there are here, for settings that name some.

    Raises:
        StartupError: it cannot be made ready; the message names the model.
    """
    try:
        return await _opened(settings, server, claims, gpus)
    except StartupError as error:
        raise type(error)(f"{settings.served_name}: {error}") from error


async def _opened(settings: ModelSettings, server: ServerSettings, claims: Claims, gpus: int) -> Model:
    if settings.deterministic:
        raise ConfigError("deterministic: concerns models that read packed tokens, not this kind")
    if settings.path:
        raise ConfigError("path: a model of this kind takes whole items and has no checkpoint; leave path out")
    load = request_load(settings)
    placed = [CPU] if settings.devices == "auto" else plan_replicas(settings.devices, settings.replicas, gpus)
    if placed == [CPU]:
        placed *= settings.replicas or 1
    for devices in placed:
        claims.claim(devices)
    _LOG.info("loading %s", settings.served_name)
    pool = Pool([partial(ReplicaProcess, _spec(settings, devices)) for devices in placed], vigilance(server))
    described = await pool.start()
    load = described.load or load
    # One batch more than it works on, so that it never waits for the next; what waits here meanwhile becomes larger batches.
    pool.vigilance = replace(pool.vigilance, ahead=load.batches + 1, at_once=load.batches)
    info = _info(settings, server, described)
    return Model(info, RequestReader(settings.text), described, pool, _shape(load), normalization=settings.normalize)


def _shape(load: RequestLoad) -> BatchShape:
    tokens = FINGERPRINT * load.items
    return BatchShape(tokens, tokens, share=False)


def _spec(settings: ModelSettings, devices: tuple[str, ...]) -> ReplicaSpec:
    environment = (
        ("CUDA_VISIBLE_DEVICES", visible(devices)),
        ("GLIBC_TUNABLES", ""),  # forward passes want memory kept ready for them; a module wants as much as it uses
        ("PYTHONUNBUFFERED", "1"),  # what a module prints is to be seen when it prints it
    )
    return ReplicaSpec(_FACTORY, (ReplicaArguments(settings, devices, 1),), environment)


def _info(settings: ModelSettings, server: ServerSettings, described: ScorerDescription) -> ModelInfo:
    info = ModelInfo(
        name=settings.served_name,
        source=str(described.settings.get("module") or described.settings.get("base_url") or ""),
        scorer_kind=described.kind,
        attribute_names=described.attribute_names,
        dtype=described.dtype,
        device=described.device,
        settings_json=settings_json(settings, scorer=dict(described.settings)),
        settings_source=OWN_SETTINGS,
        notes=described.notes,
        limits=limits(server, 0),
    )
    return with_digest(info)
