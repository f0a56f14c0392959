"""Models that read packed tokens: a checkpoint, its text side, and replicas that prove their numbers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from rm_grpc.types import ModelInfo
from rm_grpc_server.config import ModelSettings, ServerSettings
from rm_grpc_server.engine.devices import CPU, Claims, plan_replicas, replicas_on_cpu, visible
from rm_grpc_server.engine.messages import ReplicaSpec
from rm_grpc_server.engine.pool import Pool
from rm_grpc_server.engine.replica import Replica, ReplicaProcess
from rm_grpc_server.engine.scheduler import BatchShape
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.models.checkpoint import Checkpoint, open_checkpoint
from rm_grpc_server.opening.model import Model, limits, settings_json, vigilance, with_digest
from rm_grpc_server.presets import presets, resolve
from rm_grpc_server.scoring.packing import Packing, ReplicaArguments
from rm_grpc_server.scoring.protocols import ScorerDescription
from rm_grpc_server.text.pipeline import TextPipeline
from rm_grpc_server.text.tokenizer import TokenizerFiles

_LOG = logging.getLogger(__name__)
_CPU_BATCH_TOKENS, _CPU_FILL_TOKENS = 2048, 512
_GPU_BATCH_TOKENS = 16_384
_CPU_STORED_BYTES = 256 * 2**20
_FACTORY = "rm_grpc_server.scoring.loading:load_replica"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's settings and files; nothing of it is loaded yet."""

    settings: ModelSettings
    origin: str
    checkpoint: Checkpoint
    tokenizer: TokenizerFiles

    @classmethod
    def open(cls, settings: ModelSettings) -> ModelSource:
        """Finds the files, and fetches them where they must be. Blocking.

        Raises:
            StartupError: there are none, or not all.
        """
        resolved, origin = resolve(settings)
        checkpoint = open_checkpoint(resolved.path, resolved.revision)
        if checkpoint.is_encoder:
            if resolved.prefix_cache_bytes:
                raise ConfigError("prefix_cache_bytes: an encoder has no prefixes, for its tokens attend to what follows too")
            resolved = resolved.model_copy(update={"prefix_sharing": False})
        return cls(resolved, origin, checkpoint, TokenizerFiles(checkpoint.folder))

    def described(self, scorer: ScorerDescription, server: ServerSettings) -> tuple[ModelInfo, TextPipeline]:
        """What the model is, once its scorer is loaded. Blocking: digests read all weights.

        Raises:
            StartupError: settings that the tokenizer or the template cannot follow.
        """
        assert scorer.reading is not None  # else it would need no checkpoint
        text = TextPipeline(
            self.tokenizer,
            self.settings.text,
            scorer.reading,
            model_max_length=self.checkpoint.max_length,
            vocabulary_size=scorer.vocabulary_size,
        )
        told = {
            "text": {**self.settings.text.model_dump(mode="json"), "max_length": text.max_length},
            "special_tokens": self.tokenizer.special_tokens,
            "scorer": dict(scorer.settings),
        }
        if self.settings.deterministic:
            told["deterministic"] = {"fill_batch_tokens": server.fill_batch_tokens, "max_batch_tokens": server.max_batch_tokens}
        info = ModelInfo(
            name=self.settings.served_name,
            source=self.checkpoint.source,
            revision=self.checkpoint.revision,
            scorer_kind=scorer.kind,
            architecture=self.checkpoint.architecture,
            attribute_names=scorer.attribute_names,
            dtype=scorer.dtype,
            device=scorer.device,
            weights_digest=self.checkpoint.digest(),
            tokenizer_digest=self.tokenizer.digest,
            template_digest=text.template_digest,
            encoder=text.encoder.name,
            settings_json=settings_json(self.settings, **told),
            settings_source=self.origin,
            notes=(*scorer.notes, *text.notes(), *self._preset_notes()),
            limits=limits(server, text.max_length),
        )
        return with_digest(info), text

    def _preset_notes(self) -> tuple[str, ...]:
        preset = presets().get(self.settings.preset or self.settings.path)
        return (preset.note,) if preset and preset.note else ()


async def open_packed(settings: ModelSettings, server: ServerSettings, claims: Claims, gpus: int) -> Model:
    """Starts a model's replicas, each of which proves that it gives its reference's numbers.

    Args:
        gpus: how many there are here.

    Raises:
        StartupError: the model cannot be served rightly, or not on these devices.
    """
    loop = asyncio.get_running_loop()
    source = await loop.run_in_executor(None, ModelSource.open, settings)
    placed = plan_replicas(settings.devices, settings.replicas, gpus)
    if placed == [CPU] and not settings.replicas:
        weights = await loop.run_in_executor(None, source.checkpoint.weight_bytes)
        placed *= replicas_on_cpu(weights, cores=_cores(), memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    _LOG.info("loading %s from %s (%s) on %s", settings.served_name, settings.path, source.origin, _told(placed))
    if source.settings.parallel == "tensor" and len(placed[0]) == 1:
        raise ConfigError("parallel: tensor needs several devices for a replica; say how many with 'N per replica' in devices")
    for devices in placed:
        claims.claim(devices)
    shape = batch_shape(source.settings, server, on_gpu=placed[0] != CPU)
    packing = model_packing(source.settings, shape, on_gpu=placed[0] != CPU)
    launches = [_launch(source.settings, server, devices, packing, len(placed)) for devices in placed]
    pool = Pool(launches, vigilance(server))
    described = await pool.start()
    try:
        names = dict.fromkeys(place.description.device for place in pool.places if place.description)
        described = replace(described, device=", ".join(names))
        info, text = await loop.run_in_executor(None, source.described, described, server)
    except BaseException:
        await pool.close()
        raise
    _LOG.info(
        "%s: packed scores equal the one-at-a-time reference within %.1e (%s)", info.name, described.difference, info.dtype
    )
    return Model(info, text, described, pool, shape, bool(packing.stored_prefix_bytes), settings.normalize)


def batch_shape(settings: ModelSettings, server: ServerSettings, *, on_gpu: bool) -> BatchShape:
    """What a batch of a model may hold."""
    tokens = server.max_batch_tokens or (_GPU_BATCH_TOKENS if on_gpu else _CPU_BATCH_TOKENS)
    fill = min(tokens, server.fill_batch_tokens or (tokens if on_gpu else _CPU_FILL_TOKENS))
    return BatchShape(tokens, fill, share=settings.prefix_sharing and not settings.deterministic, fixed=settings.deterministic)


def model_packing(settings: ModelSettings, shape: BatchShape, *, on_gpu: bool) -> Packing:
    """How the replicas of a model pack what the scheduler gives them."""
    stored = settings.prefix_cache_bytes
    if stored is None:
        stored = _CPU_STORED_BYTES if shape.share and not on_gpu else 0
    return Packing(shape.share, shape.fill_tokens if shape.fixed else 0, stored)


def _launch(
    model: ModelSettings, server: ServerSettings, devices: tuple[str, ...], packing: Packing, replicas: int
) -> Callable[[], Replica]:
    # Two threads of one forward wait for each other at every operation; where text and transport take a core meanwhile, one
    # thread fewer is faster. Several replicas wait for nobody.
    threads = server.torch_threads or max(1, _cores() // replicas if replicas > 1 else _cores() - 1)
    if model.deterministic and devices[0] == "cpu":
        threads = 1  # several split a row's products by its place in the batch, and its bits with them
    arguments = (ReplicaArguments(model, devices, threads, packing),)
    spec = ReplicaSpec(_FACTORY, arguments, (("CUDA_VISIBLE_DEVICES", visible(devices)),))
    return partial(ReplicaProcess, spec)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _told(placed: list[tuple[str, ...]]) -> str:
    return "; ".join("+".join(devices) for devices in placed)
