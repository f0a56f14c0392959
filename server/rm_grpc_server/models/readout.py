"""From hidden states to the few numbers that a kind reads: a head's outputs, or logits of some tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from rm_grpc_server.errors import ConfigError, ModelLoadError
from rm_grpc_server.models.backbone import Backbone
from rm_grpc_server.models.prefixes import IdArray


class Readout(Protocol):
    """What is read of hidden states."""

    backbone: Backbone
    outputs: int
    """How many numbers each row gives."""

    def __call__(self, rows_RH: Tensor, /) -> Tensor:
        """The numbers, [rows, outputs] float32, on their device. One row's do not depend on the others."""

    def reference(self, ids: IdArray, reads: Sequence[int], /) -> Tensor:
        """The same as the model card gets them, [reads, outputs]: the whole model on one conversation, unpacked."""


class HeadReadout:
    """A head that is read natively, beside a decoder without one.

    Args:
        head: gives [rows, outputs] float32.
    """

    def __init__(self, backbone: Backbone, head: Callable[[Tensor], Tensor], outputs: int) -> None:
        self.backbone = backbone
        self.outputs = outputs
        self._head = head

    def __call__(self, rows_RH: Tensor, /) -> Tensor:
        """See `Readout`."""
        return self._head(rows_RH)

    def reference(self, ids: IdArray, reads: Sequence[int], /) -> Tensor:
        """See `Readout`."""
        with self.backbone.plain_attention() as model:
            hidden = model(input_ids=one_conversation(ids, self.backbone), use_cache=False).last_hidden_state[0]
            return self._head(hidden[list(reads)]).cpu()


class ClassifierReadout:
    """The linear head named `score` of Transformers' own sequence classifiers."""

    def __init__(self, backbone: Backbone, source: str) -> None:
        head = getattr(backbone.model, "score", None)
        if not isinstance(head, torch.nn.Linear):
            raise ModelLoadError(f"{source}: {type(backbone.model).__name__} has no linear head named score")
        self.backbone = backbone
        self.outputs = head.out_features
        self._weight_VH = head.weight.detach().float()
        self._bias_V = head.bias.detach().float() if head.bias is not None else None

    def __call__(self, rows_RH: Tensor, /) -> Tensor:
        """See `Readout`."""
        return torch.nn.functional.linear(rows_RH.to(self._weight_VH.device).float(), self._weight_VH, self._bias_V)

    def reference(self, ids: IdArray, reads: Sequence[int], /) -> Tensor:
        """See `Readout`; logits[0] of the whole model on the conversation up to the position that is read."""
        with self.backbone.plain_attention() as model:
            config = model.config.get_text_config()
            pad_id = config.pad_token_id
            config.pad_token_id = None  # the library's search for padding must not move the position
            try:
                rows = [model(input_ids=one_conversation(ids[: at + 1], self.backbone)).logits[0] for at in reads]
            finally:
                config.pad_token_id = pad_id
            return torch.stack(rows).float().cpu()


_CHUNK = 16_384
"""Rows of a language-model head that are taken to float32 at a time."""


class LanguageHead:
    """The language-model head of a decoder, in float32 whatever it is stored in.

    Raises:
        ModelLoadError: the model has none.
    """

    def __init__(self, backbone: Backbone) -> None:
        head = backbone.model.get_output_embeddings()
        if head is None:
            raise ModelLoadError(f"{type(backbone.model).__name__} has no output embeddings")
        self.rows: int = head.weight.shape[0]
        self.device: torch.device = head.weight.device
        self._weight_VH: Tensor = head.weight.detach()
        self._bias_V: Tensor | None = head.bias.detach() if getattr(head, "bias", None) is not None else None
        config = backbone.model.config.get_text_config()
        # Gemma 2 bounds its logits; Cohere and Granite scale theirs.
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self._scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)

    def part(self, which: Tensor | slice) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of some tokens."""
        bias = _whole(self._bias_V)[which].float() if self._bias_V is not None else None
        return _whole(self._weight_VH)[which].float(), bias

    def logits(self, rows_RH: Tensor, part: tuple[Tensor, Tensor | None]) -> Tensor:
        """Logits of some tokens, [rows, tokens]."""
        return self._bounded(torch.nn.functional.linear(rows_RH, *part))

    def log_total(self, rows_RH: Tensor) -> Tensor:
        """Logarithm of the sum of all tokens' exponentials, [rows]; a piece of the vocabulary at a time."""
        pieces = [slice(start, start + _CHUNK) for start in range(0, self.rows, _CHUNK)]
        parts = [self.logits(rows_RH, self.part(piece)).logsumexp(dim=1) for piece in pieces]
        return torch.stack(parts, dim=1).logsumexp(dim=1)

    def log_probs(self, rows_RH: Tensor, targets_R: Tensor) -> Tensor:
        """The log-probability of a token of its own for each row, [rows]."""
        rows_RH = rows_RH.to(self.device).float()
        weight, bias = self.part(targets_R)
        logits = (rows_RH * weight).sum(dim=1)
        return self._bounded(logits if bias is None else logits + bias) - self.log_total(rows_RH)

    def _bounded(self, logits: Tensor) -> Tensor:
        logits = logits * self._scale
        return logits if self._softcap is None else (logits / self._softcap).tanh() * self._softcap


class LogitReadout:
    """Raw next-token logits of some tokens: rows of the language-model head. The other rows are never computed.

    Args:
        token_ids: whose logits.
        among_all: give the tokens' log-probabilities among the whole vocabulary instead of their logits.

    Raises:
        ModelLoadError: the model has no language-model head.
        ConfigError: ids outside the vocabulary.
    """

    def __init__(self, backbone: Backbone, token_ids: Sequence[int], *, among_all: bool = False) -> None:
        self._head = LanguageHead(backbone)
        if wrong := [token for token in token_ids if not 0 <= token < self._head.rows]:
            raise ConfigError(f"scorer.token_ids: {wrong} are no ids of this vocabulary of {self._head.rows}")
        self.backbone = backbone
        self.outputs = len(token_ids)
        self._among_all = among_all
        self._ids = torch.tensor(list(token_ids), device=self._head.device)
        self._part = self._head.part(self._ids)

    def __call__(self, rows_RH: Tensor, /) -> Tensor:
        """See `Readout`."""
        rows_RH = rows_RH.to(self._head.device).float()
        logits = self._head.logits(rows_RH, self._part)
        return logits - self._head.log_total(rows_RH)[:, None] if self._among_all else logits

    def reference(self, ids: IdArray, reads: Sequence[int], /) -> Tensor:
        """See `Readout`."""
        with self.backbone.plain_attention() as model:
            logits = model(input_ids=one_conversation(ids, self.backbone), use_cache=False).logits[0, list(reads)].float()
            values: Tensor = logits.log_softmax(dim=1) if self._among_all else logits
            return values[:, self._ids].cpu()


def one_conversation(ids: IdArray, backbone: Backbone) -> Tensor:
    """A conversation as a batch of its own, [1, tokens] int64, on the device."""
    return torch.from_numpy(ids[None].astype("int64")).to(backbone.device)


def _whole(weight: Tensor) -> Tensor:
    """A weight of which this process may hold a part."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight
