"""Loads a Transformers model whole, and runs its decoder over packed batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging as transformers_logging

from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.models.attention import PACKED, register
from rm_grpc_server.models.checkpoint import Checkpoint
from rm_grpc_server.models.packed import PackedBatch

AUTO_CLASSES = {"sequence_classification": AutoModelForSequenceClassification, "causal_lm": AutoModelForCausalLM}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_WINDOWED_AND_TESTED = {"gemma2", "llama", "mistral", "qwen2", "qwen3"}
"""Model types whose sliding windows are known to reach the attention function; the tests hold each to its reference."""


class Backbone:
    """A decoder under our attention, with the whole model around it for reference runs.

    Attributes:
        model: the whole Transformers model, in evaluation mode.
        notes: what a user should know of the checkpoint.
    """

    def __init__(self, model: PreTrainedModel, notes: tuple[str, ...] = ()) -> None:
        self.model = model
        self.notes = notes
        self.decoder: torch.nn.Module = model.base_model
        self.device = model.device
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.vocabulary_size: int = model.get_input_embeddings().weight.shape[0]

    @torch.inference_mode()
    def hidden_rows(self, batch: PackedBatch) -> Tensor:
        """Hidden states after the last norm at the positions that the batch reads, [rows, hidden]."""
        output = self.decoder(
            input_ids=torch.from_numpy(batch.input_ids_T)[None].to(self.device),
            position_ids=torch.from_numpy(batch.position_ids_T)[None].to(self.device),
            use_cache=False,
            cu_seqlens=batch.cu_seqlens,
        )
        rows: Tensor = output.last_hidden_state[0, torch.from_numpy(batch.reads_R).to(self.device)]
        return rows

    @contextmanager
    def plain_attention(self) -> Iterator[PreTrainedModel]:
        """The whole model under Transformers' own attention, for one-at-a-time reference runs."""
        self.model.set_attn_implementation("eager")
        try:
            with torch.inference_mode():
                yield self.model
        finally:
            self.model.set_attn_implementation(PACKED)


def load_backbone(checkpoint: Checkpoint, *, head: str, dtype: str, device: str, **config: Any) -> Backbone:
    """Loads a checkpoint with the head that its kind reads.

    Args:
        head: a key of `AUTO_CLASSES`.
        dtype: auto (the checkpoint's), float32, bfloat16 or float16.
        device: auto, cpu, cuda:0 ...

    Raises:
        ModelLoadError: weights are missing in the file (a head among them would be random), do not fit, or the architecture
            cannot be packed.
    """
    _refuse_unpackable(checkpoint)
    register()
    transformers_logging.disable_progress_bar()
    try:
        model, info = AUTO_CLASSES[head].from_pretrained(
            checkpoint.folder,
            dtype=_DTYPES.get(dtype, "auto"),
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            **config,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ModelLoadError(f"{checkpoint.source}: cannot be loaded as {head}: {error}") from error
    missing = sorted(info["missing_keys"])
    if missing or info["mismatched_keys"]:
        fault = f"lacks {', '.join(missing[:5])}" if missing else f"has weights of another shape: {info['mismatched_keys'][:3]}"
        raise ModelLoadError(
            f"{checkpoint.source}: {fault}. Served as {head} those weights would be random and every score meaningless; "
            "is this the right scorer.kind for it?"
        )
    target = resolve_device(device)
    try:
        model = model.to(target).eval()
        model.set_attn_implementation(PACKED)
    except (RuntimeError, ValueError) as error:
        raise ModelLoadError(f"{checkpoint.source}: cannot run on {target}: {error}") from error
    unread = sorted(info["unexpected_keys"])
    notes = (f"weights in the file that nothing reads: {', '.join(unread[:5])}",) if unread else ()
    return Backbone(model, notes)


def resolve_device(device: str) -> torch.device:
    """The device that a setting means.

    Raises:
        ModelLoadError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ModelLoadError(f"device: {device!r} cannot be used: {error}") from error
    return resolved


def _refuse_unpackable(checkpoint: Checkpoint) -> None:
    config = checkpoint.text_config
    kinds = set(config.get("layer_types") or ()) - {"full_attention"}
    if unknown := kinds - {"sliding_attention"}:
        raise ModelLoadError(
            f"{checkpoint.source}: has layers of kind {', '.join(sorted(unknown))}, which cannot be packed yet"
        )
    windowed = "sliding_attention" in kinds or (config.get("sliding_window") and config.get("use_sliding_window", True))
    if windowed and config.get("model_type") not in _WINDOWED_AND_TESTED:
        raise ModelLoadError(
            f"{checkpoint.source}: has sliding-window layers, and {config.get('model_type')} is not among the types whose "
            f"windows are tested: {', '.join(sorted(_WINDOWED_AND_TESTED))}"
        )
    if rope := sorted(_rope_types(config) & {"longrope", "dynamic"}):
        raise ModelLoadError(
            f"{checkpoint.source}: rotary embedding of type {rope[0]} depends on the longest conversation of a batch, "
            "so that a score would depend on its neighbours; it cannot be packed yet"
        )
    if config.get("is_encoder_decoder") or config.get("is_causal") is False:
        raise ModelLoadError(f"{checkpoint.source}: is no causal decoder, and cannot be packed yet")


def _rope_types(config: Any) -> set[str]:
    """All values of rope_type (or type, as older configs call it) in a config's rotary settings, however nested."""
    found: set[str] = set()
    for key in ("rope_parameters", "rope_scaling"):
        settings = config.get(key) or {}
        for each in (settings, *(value for value in settings.values() if isinstance(value, dict))):
            found |= {str(each[name]) for name in ("rope_type", "type") if name in each}
    return found
