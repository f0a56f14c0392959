"""Models that ask other models of the same server."""

from __future__ import annotations

from collections.abc import Mapping

from rm_grpc.types import ModelInfo
from rm_grpc_server.config import ModelSettings, ServerSettings
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.engine.ensemble import EnsembleEngine
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.opening.model import limits, settings_json, with_digest
from rm_grpc_server.presets import OWN_SETTINGS
from rm_grpc_server.scoring.kinds.ensemble import KIND, Options


def is_ensemble(settings: ModelSettings) -> bool:
    """Whether a model only asks others."""
    return settings.scorer.kind == KIND


def ensemble_options(settings: ModelSettings, models: tuple[ModelSettings, ...]) -> Options:
    """An ensemble's options, checked against the models that are served.

    Raises:
        ConfigError: options that the kind does not have, or a component that is no model here.
    """
    options = Options.of(settings)
    if settings.path:
        raise ConfigError(f"path: {settings.served_name} is an ensemble and has no checkpoint; leave path out")
    single = {model.served_name: model for model in models if not is_ensemble(model)}
    for name, component in options.components.items():
        where = f"scorer.components.{name}"
        if component.model not in single:
            raise ConfigError(f"{where}.model: {component.model!r} is no model here; there are {', '.join(single) or 'none'}")
        if options.combine == "z_score" and not (component.normalize or single[component.model].normalize):
            raise ConfigError(f"{where}.normalize: z_score needs mean and std, here or at the model {component.model}")
    return options


def open_ensemble(settings: ModelSettings, server: ServerSettings, engines: Mapping[str, Engine]) -> EnsembleEngine:
    """An ensemble over engines that run; raises as `ensemble_options`."""
    options = ensemble_options(settings, server.models)
    asked = {name: engines[component.model] for name, component in options.components.items()}
    told = settings_json(
        settings,
        scorer={"kind": KIND, **options.model_dump(mode="json")},
        models={name: engine.info.model_digest for name, engine in asked.items()},
    )
    info = ModelInfo(
        name=settings.served_name,
        source=", ".join(dict.fromkeys(engine.info.name for engine in asked.values())),
        scorer_kind=KIND,
        attribute_names=tuple(options.components),
        settings_json=told,
        settings_source=OWN_SETTINGS,
        limits=limits(server, min(engine.info.limits.max_length for engine in asked.values())),
    )
    return EnsembleEngine(with_digest(info), options, asked, settings.normalize)
