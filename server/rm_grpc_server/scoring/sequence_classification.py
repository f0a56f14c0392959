"""A classification head at one position: Skywork-Reward and most Bradley-Terry models.

The score is the head's one raw output at the last token of the conversation (Skywork-Reward-Llama-3.1-8B model card). The
card's library finds that position by looking for padding tokens from the right; here it follows from the length, so that a
conversation whose last token happens to be the padding token is read where it ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from rm_grpc_server.config import Settings, parse
from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.models.backbone import Backbone, Placement, load_backbone
from rm_grpc_server.models.checkpoint import Checkpoint
from rm_grpc_server.scoring.positions import LastToken, ReadPositions
from rm_grpc_server.scoring.protocols import Verdict
from rm_grpc_server.text.encoding import TokenArray

KIND = "sequence_classification"


class Options(Settings):
    """Settings of the kind."""

    pooling: Literal["last_token", "last_non_pad"] = Field(
        "last_token",
        description="the position that is read; last_non_pad skips trailing padding tokens of the conversation itself, as "
        "Transformers does when the padding token is also the end of a turn",
    )


class SequenceClassification:
    """See the module."""

    kind = KIND
    attribute_names: tuple[str, ...] = ()

    def __init__(self, backbone: Backbone, head: torch.nn.Linear, options: Options) -> None:
        self.backbone = backbone
        self.settings: Mapping[str, Any] = {"kind": KIND, **options.model_dump()}
        self._reads_padding_too = options.pooling == "last_token"
        pad_id: int | None = backbone.model.config.get_text_config().pad_token_id
        self.positions: ReadPositions = LastToken(None if self._reads_padding_too else pad_id)
        self._weight_VH = head.weight.detach().float()
        self._bias_V = head.bias.detach().float() if head.bias is not None else None

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, options: Mapping[str, Any], *, dtype: str, placement: Placement
    ) -> SequenceClassification:
        """Loads a checkpoint.

        Raises:
            ModelLoadError: the checkpoint has no such head in its file, or one with several labels.
            ConfigError: options that the kind does not have.
        """
        parsed = parse(Options, options, "scorer")
        backbone = load_backbone(checkpoint, head="sequence_classification", dtype=dtype, placement=placement)
        head = getattr(backbone.model, "score", None)
        if not isinstance(head, torch.nn.Linear):
            raise ModelLoadError(f"{checkpoint.source}: {type(backbone.model).__name__} has no linear head named score")
        if head.out_features != 1:
            raise ModelLoadError(f"{checkpoint.source}: the head has {head.out_features} outputs, this kind reads one")
        return cls(backbone, head, parsed)

    def head(self, rows_RH: Tensor, /) -> Tensor:
        """The head's one output, [rows, 1]."""
        return torch.nn.functional.linear(rows_RH.to(self._weight_VH.device).float(), self._weight_VH, self._bias_V)

    def verdicts(self, values_RV: Tensor, _rows_per_conversation: Sequence[int], /) -> list[Verdict]:
        """One row a conversation."""
        return [Verdict(score) for score in values_RV[:, 0].tolist()]

    def reference(self, ids: TokenArray) -> float:
        """The card's snippet: logits[0][0] of the whole model on one conversation."""
        with self.backbone.plain_attention() as model:
            config = model.config.get_text_config()
            pad_id = config.pad_token_id
            config.pad_token_id = None if self._reads_padding_too else pad_id
            try:
                logits = model(input_ids=torch.from_numpy(ids[None].astype("int64")).to(self.backbone.device)).logits
            finally:
                config.pad_token_id = pad_id
            return float(logits[0, 0])
