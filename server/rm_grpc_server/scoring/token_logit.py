"""Raw next-token logits at the last position: Llama-3.1-Nemotron-70B-Reward.

The model card generates one token and reads the logit of vocabulary id 0. Here the same number is one row of the language-model
head times one hidden state; the other rows are never computed. Logits are raw: no warper, no softmax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.distributed.tensor import DTensor

from rm_grpc_server.config import Settings, parse
from rm_grpc_server.errors import ConfigError, ModelLoadError
from rm_grpc_server.models.backbone import Backbone, Placement, load_backbone
from rm_grpc_server.models.checkpoint import Checkpoint
from rm_grpc_server.scoring.positions import LastToken, ReadPositions
from rm_grpc_server.scoring.protocols import Verdict
from rm_grpc_server.text.encoding import TokenArray

KIND = "token_logit"


class Options(Settings):
    """Settings of the kind."""

    token_ids: tuple[int, ...] = Field(min_length=1, description="vocabulary ids whose logits are read")
    weights: tuple[float, ...] | None = Field(None, description="what each logit counts; by default 1")

    @model_validator(mode="after")
    def _one_weight_each(self) -> Options:
        if self.weights is not None and len(self.weights) != len(self.token_ids):
            raise ValueError(f"weights: {len(self.weights)} weights for {len(self.token_ids)} token_ids")
        return self


class TokenLogit:
    """See the module."""

    kind = KIND
    attribute_names: tuple[str, ...] = ()
    positions: ReadPositions = LastToken()
    """The last token, whose logits are those of the next."""

    def __init__(self, backbone: Backbone, options: Options) -> None:
        head = backbone.model.get_output_embeddings()
        if head is None:
            raise ModelLoadError(f"{type(backbone.model).__name__} has no output embeddings")
        rows = head.weight.shape[0]
        if wrong := [token for token in options.token_ids if not 0 <= token < rows]:
            raise ConfigError(f"scorer.token_ids: {wrong} are no ids of this vocabulary of {rows}")
        self.backbone = backbone
        self.settings: Mapping[str, Any] = {"kind": KIND, **options.model_dump()}
        self._ids = torch.tensor(options.token_ids, device=head.weight.device)
        self._rows_KH = _whole(head.weight)[self._ids].detach().float()
        bias = getattr(head, "bias", None)
        self._bias_K = _whole(bias)[self._ids].detach().float() if bias is not None else torch.zeros_like(self._rows_KH[:, 0])
        self._weights_K = torch.tensor(options.weights or (1.0,) * len(self._ids), device=head.weight.device)
        config = backbone.model.config.get_text_config()
        # Gemma 2 bounds its logits; Cohere and Granite scale theirs.
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self._scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)

    @classmethod
    def load(cls, checkpoint: Checkpoint, options: Mapping[str, Any], *, dtype: str, placement: Placement) -> TokenLogit:
        """Loads a checkpoint.

        Raises:
            ModelLoadError: the checkpoint has no language-model head in its file.
            ConfigError: options that the kind does not have, or ids outside the vocabulary.
        """
        parsed = parse(Options, options, "scorer")
        return cls(load_backbone(checkpoint, head="causal_lm", dtype=dtype, placement=placement), parsed)

    def head(self, rows_RH: Tensor, /) -> Tensor:
        """The weighted sum of the logits that are asked for, [rows, 1]."""
        logits_RK = self._transformed(
            torch.nn.functional.linear(rows_RH.to(self._rows_KH.device).float(), self._rows_KH, self._bias_K)
        )
        return logits_RK @ self._weights_K[:, None]

    def verdicts(self, values_RV: Tensor, _rows_per_conversation: Sequence[int], /) -> list[Verdict]:
        """One row a conversation."""
        return [Verdict(score) for score in values_RV[:, 0].tolist()]

    def reference(self, ids: TokenArray) -> float:
        """The card's snippet: raw logits of the whole model at the last position of one conversation."""
        with self.backbone.plain_attention() as model:
            logits = model(
                input_ids=torch.from_numpy(ids[None].astype("int64")).to(self.backbone.device), use_cache=False
            ).logits
            return float(logits[0, -1, self._ids].float() @ self._weights_K)

    def _transformed(self, logits: Tensor) -> Tensor:
        logits = logits * self._scale
        return logits if self._softcap is None else self._softcap * torch.tanh(logits / self._softcap)


def _whole(weight: Tensor) -> Tensor:
    """A weight of which this process may hold a part."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight
