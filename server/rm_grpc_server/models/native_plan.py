"""Attention over a packed row by `rm_grpc_native`, in one pass over each path: float32 on an x86 CPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rm_grpc_server.models.attention import Form, Keys, MergedPlan
from rm_grpc_server.models.native import array_of, native_for
from rm_grpc_server.models.packed import PackedBatch, path_to


class NativePlan:
    """The whole row. Softcaps, and windows that are shorter than a conversation, it leaves to `MergedPlan`."""

    def __init__(self, batch: PackedBatch) -> None:
        own = [one for one in batch.segments if one.stored < 0]
        paths = [path_to(batch.segments, one.parent) for one in own]
        self._runs = np.array([(one.start, one.length, len(path)) for one, path in zip(own, paths, strict=True)], np.int64)
        parts = [(one.stored + 1, one.start if one.stored < 0 else 0, one.length) for path in paths for one in path]
        self._path = np.array(parts, np.int64).reshape(-1, 3)
        self._longest = int(batch.position_ids_T.max()) + 1
        self._batch = batch

    @cached_property
    def _merged(self) -> MergedPlan:
        return MergedPlan(self._batch, only_reads=False)

    def attend(self, query: Tensor, keys: Keys, stored: Sequence[Keys], form: Form) -> Tensor:
        """See `Plan`."""
        heads, tokens, width = query.shape
        is_windowed = form.window is not None and form.window < self._longest
        if form.softcap or is_windowed or keys[1].shape[-1] != width:
            return self._merged.attend(query, keys, stored, form)
        output = query.new_empty((tokens, heads, width))
        native = native_for(query.device, query.dtype)
        assert native is not None  # whoever chose this plan has asked
        native.attend(
            array_of(query),
            [(array_of(k), array_of(v)) for k, v in (keys, *stored)],
            self._runs,
            self._path,
            scale=form.scale,
            output=output.numpy(),
            threads=torch.get_num_threads(),
        )
        return output
