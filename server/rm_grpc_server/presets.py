"""What is known of public reward models, as data: `presets.yaml`, keyed by model id, each entry with its source."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import yaml
from pydantic import Field

from rm_grpc_server.config import ModelSettings, ScorerSettings, Settings, TextSettings, parse
from rm_grpc_server.errors import ConfigError

OWN_SETTINGS = "the caller's settings and the defaults"
"""Where settings come from that no preset takes part in."""


class Preset(Settings):
    """The settings of one public model.

    Attributes:
        source: where the values were read.
        text, scorer: the settings, as they would stand in a configuration file.
        expected: scores that the model card prints, for whoever wants to check: name of the example to score.
    """

    source: str
    text: TextSettings = TextSettings()
    scorer: ScorerSettings = ScorerSettings()
    note: str = ""
    expected: dict[str, float] = Field(default_factory=dict)


@cache
def presets() -> dict[str, Preset]:
    """All presets by model id."""
    raw = yaml.safe_load(resources.files("rm_grpc_server").joinpath("presets.yaml").read_text())
    return {name: parse(Preset, entry, f"presets.yaml: {name}") for name, entry in raw.items()}


def resolve(settings: ModelSettings) -> tuple[ModelSettings, str]:
    """The settings with the model's preset under what the caller set, and a line that tells where they come from.

    Raises:
        ConfigError: a preset was named that there is not.
    """
    wanted = settings.preset or (settings.path if settings.path in presets() else "none")
    if wanted == "none":
        return settings, OWN_SETTINGS
    if wanted not in presets():
        raise ConfigError(f"preset: there is no preset {wanted!r}; there are {', '.join(sorted(presets()))}")
    preset = presets()[wanted]
    changed = settings.text.model_dump(exclude_unset=True)
    text = TextSettings.model_validate(preset.text.model_dump(exclude_unset=True) | changed)
    own_scorer: dict[str, Any] = settings.scorer.model_dump(exclude_unset=True)
    scorer = settings.scorer if own_scorer else preset.scorer
    origin = f"preset {wanted} ({preset.source})"
    if changed or own_scorer:
        origin += f", with the caller's {', '.join(sorted(changed) + ['scorer'] * bool(own_scorer))}"
    return settings.model_copy(update={"text": text, "scorer": scorer}), origin
