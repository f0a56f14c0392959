"""A model that scores one padded batch: what a few lines around a server's batching give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from benchmarks.encoder import Encoder, Messages

MOST_CONVERSATIONS = 16
"""Conversations of a batch: as many as the rollout stream has in flight."""
WAIT_SECONDS = 0.005
"""How long a batch waits for more."""


class PaddedModel:
    """A sequence classification model on the CPU."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto").eval()
        self._encoder = Encoder(folder)

    @torch.inference_mode()
    def scores(self, conversations: Sequence[Messages]) -> list[float]:
        """Raw scores; all conversations are padded to the longest."""
        ids = [self._encoder.ids(messages) for messages in conversations]
        widest, pad = max(map(len, ids)), self._model.config.pad_token_id
        rows = torch.tensor([[*one, *[pad] * (widest - len(one))] for one in ids])
        mask = torch.tensor([[1] * len(one) + [0] * (widest - len(one)) for one in ids])
        scores: list[float] = self._model(input_ids=rows, attention_mask=mask).logits[:, 0].tolist()
        return scores
