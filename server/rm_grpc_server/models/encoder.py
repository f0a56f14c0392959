"""Encoders, which attend in both directions: whole padded batches, with a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rm_grpc_server.models.prefixes import IdArray


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Conversations padded to the longest, on the device.

    Attributes:
        input_ids_BT, mask_BT: [conversations, longest] int64; the mask is 1 on tokens.
        reads_R2: for each read its conversation and position, [reads, 2] int64.
        tokens: how many there are, padding left out.
    """

    input_ids_BT: Tensor
    mask_BT: Tensor
    reads_R2: Tensor
    tokens: int


class Encoder:
    """A whole Transformers encoder.

    Args:
        values: what a forward's output gives with the reads of each conversation, [conversations, outputs].

    Attributes:
        outputs: how many numbers a conversation gives.
    """

    def __init__(self, model: PreTrainedModel, values: Callable[[Any, Tensor], Tensor], *, outputs: int) -> None:
        self.model = model
        self.outputs = outputs
        self.device = model.device
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.vocabulary_size: int = model.get_input_embeddings().weight.shape[0]
        self.notes: tuple[str, ...] = ()
        self._values = values
        self._pad_id = int(model.config.pad_token_id or 0)
        self._has_types = getattr(model.config, "type_vocab_size", 0) > 1
        """Whether it tells the second of two texts by its type (BERT); the second read is where that begins."""

    def place(self, conversations: Sequence[IdArray], reads: Sequence[Sequence[int]]) -> PaddedBatch:
        """Pads a batch and copies it to the device."""
        longest = max(len(ids) for ids in conversations)
        ids_BT = np.full((len(conversations), longest), self._pad_id, dtype=np.int64)
        mask_BT = np.zeros_like(ids_BT)
        for row, ids in enumerate(conversations):
            ids_BT[row, : len(ids)] = ids
            mask_BT[row, : len(ids)] = 1
        places = [(row, at) for row, positions in enumerate(reads) for at in positions]
        to_device = self._to_device
        return PaddedBatch(to_device(ids_BT), to_device(mask_BT), to_device(np.array(places)), int(mask_BT.sum()))

    @torch.inference_mode()
    def values(self, batch: PaddedBatch) -> Tensor:
        """The numbers of each conversation, [conversations, outputs] float32."""
        inputs = {"input_ids": batch.input_ids_BT, "attention_mask": batch.mask_BT}
        if self._has_types:
            places = torch.arange(batch.input_ids_BT.shape[1], device=self.device)
            begins_B = batch.reads_R2[1::2, 1]
            inputs["token_type_ids"] = (places[None] >= begins_B[:, None]).long() * batch.mask_BT
        return self._values(self.model(**inputs), batch.reads_R2).float()

    def _to_device(self, array: npt.NDArray[np.int64]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)
