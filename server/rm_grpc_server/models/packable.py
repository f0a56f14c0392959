"""Whether an architecture can be packed, told from its config alone: nothing is loaded, and torch is not needed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rm_grpc_server.models.checkpoint import Checkpoint

WINDOWED_AND_TESTED = frozenset(("gemma2", "llama", "mistral", "qwen2", "qwen3"))
"""Model types whose sliding windows are known to reach the attention function; the tests hold each to its reference."""
_RECURRENT = frozenset(("falcon_mamba", "lfm2", "lfm2_moe", "mamba", "mamba2", "recurrent_gemma", "rwkv", "xlstm"))
"""Types all of whose layers, or some that no layer_types names, carry a state from token to token; see `unpackable_layers`."""


def unpackable(checkpoint: Checkpoint) -> str:
    """Why a decoder cannot be packed; empty where nothing in its config speaks against it."""
    config = checkpoint.text_config
    if config.get("model_type") in _RECURRENT:
        return f"is recurrent ({config['model_type']}), and cannot be packed yet"
    kinds = list(config.get("layer_types") or ())
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        kinds.append("sliding_attention")
    if why := unpackable_layers(str(config.get("model_type")), kinds):
        return why
    if rope := sorted(_rope_types(config) & {"longrope", "dynamic"}):
        return (
            f"rotary embedding of type {rope[0]} depends on the longest conversation of a batch, so that a score would depend "
            "on its neighbours; it cannot be packed yet"
        )
    if config.get("is_encoder_decoder") or config.get("is_causal") is False:
        return "is no causal decoder, and cannot be packed yet"
    return ""


def unpackable_layers(model_type: str, kinds: Collection[str]) -> str:
    """The same for the kinds of a decoder's layers. A type's own config class may tell of some that its file does not."""
    if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
        return f"has layers of kind {', '.join(sorted(unknown))}, which cannot be packed yet"
    if "sliding_attention" in kinds and model_type not in WINDOWED_AND_TESTED:
        return (
            f"has sliding-window layers, and {model_type} is not among the types whose windows are tested: "
            f"{', '.join(sorted(WINDOWED_AND_TESTED))}"
        )
    return ""


def is_known_type(model_type: str) -> bool:
    """Whether Transformers has classes for a model type, so that it loads without code of the checkpoint's own."""
    if model_type in WINDOWED_AND_TESTED:
        return True
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # slow to import, and rarely asked for

    return model_type in CONFIG_MAPPING_NAMES


def _rope_types(config: Any) -> set[str]:
    """All values of rope_type (or type, as older configs call it) in a config's rotary settings, however nested."""
    found: set[str] = set()
    for key in ("rope_parameters", "rope_scaling"):
        settings = config.get(key) or {}
        for each in (settings, *(value for value in settings.values() if isinstance(value, dict))):
            found |= {str(each[name]) for name in ("rope_type", "type") if name in each}
    return found
