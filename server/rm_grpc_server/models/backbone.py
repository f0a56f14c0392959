"""Loads a Transformers model whole, and runs its decoder over packed batches."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import logging as transformers_logging

from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.models.attention import PACKED, Attending, Keys, register
from rm_grpc_server.models.checkpoint import Checkpoint
from rm_grpc_server.models.in_place import as_written, work_in_place
from rm_grpc_server.models.linear import pack_linears, plain_products
from rm_grpc_server.models.packable import unpackable, unpackable_layers
from rm_grpc_server.models.packed import PackedBatch
from rm_grpc_server.models.plans import attending, kernel_for
from rm_grpc_server.models.unread import LastLayer
from rm_grpc_server.models.weights import WeightFiles

AUTO_CLASSES = {
    "sequence_classification": AutoModelForSequenceClassification,
    "causal_lm": AutoModelForCausalLM,
    "none": AutoModel,
}
_DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ITEM_SIZES = {name: dtype.itemsize for name, dtype in _DTYPES.items()}
_MOST_TOLD = 500
"""Characters of a library's error that are passed on: some list every model there is."""
_ROOM = 1.1
"""How much free memory a device must have, as a multiple of the weights."""


@dataclass(frozen=True, slots=True)
class PlacedBatch:
    """A batch whose tensors are on the device, or on their way there."""

    batch: PackedBatch
    input_ids_T: Tensor
    position_ids_T: Tensor
    attending: Attending


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model goes.

    Attributes:
        devices: cpu, or GPUs of this process.
        is_tensor_parallel: whether this process is one rank of as many as there are devices, with a part of every layer; else
            whole layers are spread over the devices in their order.
    """

    devices: tuple[str, ...]
    is_tensor_parallel: bool = False


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
        self.is_spread = len({parameter.device for parameter in model.parameters()}) > 1
        """Whether its layers are on several devices."""
        self.last_device: torch.device = list(model.parameters())[-1].device
        """Where its hidden states come out."""
        self._reads_only = LastLayer.install(self.decoder)
        config = model.config.get_text_config()
        self._kernel = kernel_for(self.device, model.dtype, softcap=bool(getattr(config, "attn_logit_softcapping", None)))

    def place(self, batch: PackedBatch, stored: Sequence[Sequence[Keys]] = (), *, keep: bool = False) -> PlacedBatch:
        """Copies a batch to the device; from pinned memory where that is a GPU, so that nobody waits for the copy.

        Args:
            stored, keep: as for `attending`.
        """
        ids_T, positions_T = (self._to_device(torch.from_numpy(array)) for array in (batch.input_ids_T, batch.position_ids_T))
        return PlacedBatch(batch, ids_T, positions_T, attending(batch, self._kernel, stored, keep=keep))

    @torch.inference_mode()
    def hidden_rows(self, placed: PlacedBatch) -> Tensor:
        """Hidden states after the last norm at the rows that the batch reads, `read_rows_U`: [unique rows, hidden]."""
        hidden: Tensor = self.decoder(
            input_ids=placed.input_ids_T[None],
            position_ids=placed.position_ids_T[None],
            use_cache=False,
            attending=placed.attending,
        ).last_hidden_state[0]
        return hidden if self._reads_only else hidden[placed.attending.read_rows.on(hidden.device)]

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    @contextmanager
    def plain_attention(self) -> Iterator[PreTrainedModel]:
        """The whole model as Transformers wrote it, with torch's own products, for one-at-a-time reference runs."""
        self.model.set_attn_implementation("eager")
        try:
            with torch.inference_mode(), plain_products(self.model), as_written(self.model):
                yield self.model
        finally:
            self.model.set_attn_implementation(PACKED)


@dataclass(frozen=True, slots=True)
class Loading:
    """How a checkpoint is loaded.

    Attributes:
        head: a key of `AUTO_CLASSES`; `none` loads the body alone, whatever its tensors' names begin with.
        dtype: auto (the checkpoint's), float32, bfloat16 or float16; float64 for reference runs alone.
    """

    head: str
    dtype: str
    placement: Placement
    trust_remote_code: bool = False


def load_backbone(checkpoint: Checkpoint, loading: Loading, files: WeightFiles) -> Backbone:
    """Loads a decoder.

    Raises:
        ModelLoadError: weights are missing in the file (a head among them would be random), do not fit, or the architecture
            cannot be packed.
    """
    if why := unpackable(checkpoint):
        raise ModelLoadError(f"{checkpoint.source}: {why}")
    register()
    model, notes = _load(checkpoint, loading, files)
    config = model.config.get_text_config()
    if why := unpackable_layers(config.model_type, getattr(config, "layer_types", None) or ()):
        raise ModelLoadError(f"{checkpoint.source}: {why}")
    try:
        model.set_attn_implementation(PACKED)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelLoadError(f"{checkpoint.source}: {type(model).__name__} cannot run under our attention: {error}") from error
    pack_linears(model.base_model)
    work_in_place(model.base_model)
    return Backbone(model, notes)


def load_encoder(checkpoint: Checkpoint, loading: Loading, files: WeightFiles) -> PreTrainedModel:
    """Loads an encoder whole, on one device.

    Raises:
        ModelLoadError: weights are missing in the file or do not fit, or there are several devices.
    """
    if len(loading.placement.devices) > 1:
        raise ModelLoadError("devices: an encoder runs on one device; leave '... per replica' out")
    model, _ = _load(checkpoint, loading, files)
    return model


def _load(checkpoint: Checkpoint, loading: Loading, files: WeightFiles) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """The model in evaluation mode where it is to be, and notes on its files."""
    devices = loading.placement.devices
    _refuse_too_small(checkpoint, loading.dtype, devices)
    transformers_logging.disable_progress_bar()
    reports = logging.getLogger("transformers.modeling_utils")
    reports.disabled = True  # what it tells of missing and unexpected tensors is judged here
    try:
        model, info = _from_files(checkpoint, loading, files)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ModelLoadError(f"{checkpoint.source}: cannot be loaded as {loading.head}: {str(error)[:_MOST_TOLD]}") from error
    finally:
        reports.disabled = False
    missing = sorted(info["missing_keys"])
    if missing or info["mismatched_keys"]:
        fault = f"lacks {', '.join(missing[:5])}" if missing else f"has weights of another shape: {info['mismatched_keys'][:3]}"
        raise ModelLoadError(
            f"{checkpoint.source}: {fault}. Served as {loading.head} those weights would be random and every score "
            "meaningless; is this the right scorer.kind for it?"
        )
    try:
        model = (model.to(torch.device(devices[0])) if len(devices) == 1 else model).eval()
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelLoadError(f"{checkpoint.source}: cannot run on {', '.join(devices)}: {error}") from error
    unread = [] if loading.head == "none" else sorted(info["unexpected_keys"])
    return model, (f"weights in the file that nothing reads: {', '.join(unread[:5])}",) if unread else ()


def _from_files(checkpoint: Checkpoint, loading: Loading, files: WeightFiles) -> Any:
    options: dict[str, Any] = {
        "dtype": _DTYPES.get(loading.dtype, "auto"),
        "output_loading_info": True,
        **_spread(loading.placement),
    }
    if loading.head == "none" and files.are_pickled:
        return _unpickled(checkpoint, files, options)
    options |= {
        "local_files_only": True,
        "use_safetensors": not files.are_pickled,
        "trust_remote_code": loading.trust_remote_code,
    }
    if loading.head == "none" and files.body_prefix not in ("", "model."):
        options["key_mapping"] = {f"^{re.escape(files.body_prefix)}": ""}
    return AUTO_CLASSES[loading.head].from_pretrained(checkpoint.folder, **options)


def _unpickled(checkpoint: Checkpoint, files: WeightFiles, options: dict[str, Any]) -> Any:
    """The decoder out of pickles under names of their own, which Transformers does not look for."""
    config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    prefix = files.body_prefix
    state = {name.removeprefix(prefix): tensor for name, tensor in files.read_pickled().items()}
    return MODEL_MAPPING[type(config)].from_pretrained(None, config=config, state_dict=state, **options)


def _spread(placement: Placement) -> dict[str, Any]:
    """What `from_pretrained` is told of several devices."""
    if len(placement.devices) == 1:
        return {}
    if not placement.is_tensor_parallel:
        if placement.devices[0] == "cpu":
            raise ModelLoadError("devices: several of the CPU go with parallel: tensor only")
        return {"device_map": "auto"}
    from transformers.distributed import DistributedConfig

    if "tp_plan" in inspect.signature(DistributedConfig).parameters:
        return {"distributed_config": DistributedConfig(tp_plan="auto")}
    return {"tp_plan": "auto"}  # Transformers before 5.18


def _refuse_too_small(checkpoint: Checkpoint, dtype: str, devices: Sequence[str]) -> None:
    """Refuses GPUs that have not enough free memory for the weights, because they are too small or somebody works on them."""
    if devices[0] == "cpu":
        return
    needed = checkpoint.weight_bytes(_ITEM_SIZES.get(dtype))
    free, total = (sum(sizes) for sizes in zip(*(torch.cuda.mem_get_info(device) for device in devices), strict=True))
    if needed * _ROOM > free:
        raise ModelLoadError(
            f"devices: the weights of {checkpoint.source} take {needed / 2**30:.1f} GiB and need some room beside them; "
            f"{', '.join(devices)} have {free / 2**30:.1f} of {total / 2**30:.1f} GiB free. They are too small, or "
            "another process uses them; choose others with devices"
        )
