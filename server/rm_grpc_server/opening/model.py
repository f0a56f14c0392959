"""A model that is ready, and what every kind of opening needs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from rm_grpc.types import Limits, ModelInfo
from rm_grpc_server.config import ModelSettings, Normalization, ServerSettings
from rm_grpc_server.engine.pool import Pool, Vigilance
from rm_grpc_server.engine.scheduler import BatchShape
from rm_grpc_server.scoring.protocols import ScorerDescription
from rm_grpc_server.text.encoding import Reader


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is ready: what it is, how it reads, what scores it, and in which batches."""

    info: ModelInfo
    text: Reader
    description: ScorerDescription
    pool: Pool
    shape: BatchShape
    stores_prefixes: bool = False
    normalization: Normalization | None = None


def limits(settings: ServerSettings, max_length: int) -> Limits:
    """What the server takes from one caller; `max_length` is a model's."""
    return Limits(max_length, settings.max_message_bytes, settings.window_items, settings.window_bytes)


def vigilance(server: ServerSettings) -> Vigilance:
    """How replicas are watched, by the server's settings."""
    return Vigilance(hang_seconds=server.hang_seconds, probe_seconds=server.probe_seconds, load_seconds=server.load_seconds)


def settings_json(settings: ModelSettings, **told: object) -> str:
    """What a model's numbers depend on beside its files, for its description and digest."""
    if settings.normalize is not None:
        told["normalize"] = settings.normalize.model_dump()
    return json.dumps(told, sort_keys=True)


def with_digest(info: ModelInfo) -> ModelInfo:
    """The description with the digest of everything that makes the model's numbers."""
    parts = (info.weights_digest, info.tokenizer_digest, info.template_digest, info.settings_json, info.dtype)
    return replace(info, model_digest=hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16])
