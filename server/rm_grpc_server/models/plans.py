"""Which plan computes a batch's attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch

from rm_grpc_server.models.attention import Attending, Keys, MergedPlan, OnDevices, Plan, VarlenPlan
from rm_grpc_server.models.native import native_for
from rm_grpc_server.models.native_plan import NativePlan
from rm_grpc_server.models.packed import PackedBatch

Kernel: TypeAlias = Literal["varlen", "native", "merged"]


def kernel_for(device: torch.device, dtype: torch.dtype, *, softcap: bool) -> Kernel:
    """The fastest that serves a model.

    Args:
        softcap: whether its scores are capped, which `varlen_attn` cannot do.
    """
    if device.type == "cuda" and dtype in (torch.float16, torch.bfloat16) and not softcap:
        return "varlen"
    return "merged" if native_for(device, dtype) is None else "native"


def attending(batch: PackedBatch, kernel: Kernel, stored: Sequence[Sequence[Keys]] = (), *, keep: bool = False) -> Attending:
    """A forward pass of a batch.

    Args:
        stored: keys and values by layer of each stored prefix, exactly as long as the batch uses them.
        keep: whether the row's own keys and values are wanted afterwards.
    """
    full, reads = _varlen(batch, stored) if kernel == "varlen" else _merged(batch, native=kernel == "native")
    return Attending(full, reads, OnDevices(torch.from_numpy(batch.read_rows_U)), stored, keep=keep)


def _varlen(batch: PackedBatch, stored: Sequence[Sequence[Keys]]) -> tuple[Plan, Plan]:
    lengths = [layers[0][0].shape[1] for layers in stored]
    return VarlenPlan(batch, lengths, only_reads=False), VarlenPlan(batch, lengths, only_reads=True)


def _merged(batch: PackedBatch, *, native: bool) -> tuple[Plan, Plan]:
    full = NativePlan(batch) if native else MergedPlan(batch, only_reads=False)
    return full, MergedPlan(batch, only_reads=True)  # a few queries, each for itself, are no work for tiles
