"""Attention over a packed row, registered with Transformers under a name of our own.

Transformers infers block-diagonal masks only under conditions that a caller can miss (no mask, no cache); then segments leak
into each other and every score is silently wrong. Here the segment table comes with the call, and a call without one fails.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

PACKED = "rm_grpc_packed"


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    cu_seqlens: tuple[int, ...] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention of each segment to itself.

    Args:
        module: the attention layer, as Transformers passes it.
        query: [1, heads, tokens, head_dim]; key and value: [1, key_value_heads, tokens, head_dim].
        attention_mask: None; the registered mask function sees to it.
        sliding_window: how many tokens back a token sees, itself included.
        softcap: bound of the scores before the softmax (Gemma 2): softcap * tanh(scores / softcap).
        cu_seqlens: the segment table of the batch.

    Returns:
        [1, tokens, heads, head_dim], and no weights.

    Raises:
        RuntimeError: a call that this attention would answer wrongly.
    """
    if cu_seqlens is None or attention_mask is not None:
        raise RuntimeError("packed attention needs the segment table and no mask; this model does not pass them on")
    if not getattr(module, "is_causal", True):
        raise RuntimeError("packed attention is causal, and this layer is not")
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    output = query.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[-1])
    for start, end in pairwise(cu_seqlens):
        q, k, v = query[:, :, start:end], key[:, :, start:end], value[:, :, start:end]
        segment = _softcapped(q, k, v, scale, softcap, sliding_window) if softcap else _sdpa(q, k, v, scale, sliding_window)
        output[:, start:end] = segment.transpose(1, 2)
    return output, None


def _sdpa(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
    if window is None or q.shape[2] <= window:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    visible = _visible(q.shape[2], window, q.device)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)


def _softcapped(q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float, window: int | None) -> Tensor:
    scores = q @ k.transpose(2, 3) * scale
    scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~_visible(q.shape[2], window, q.device), float("-inf"))
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype) @ v


def _visible(length: int, window: int | None, device: torch.device) -> Tensor:
    """Which key (column) a query (row) sees: itself and those before, fewer than `window` back."""
    visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return visible if window is None else visible.triu(1 - window)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def register() -> None:
    """Makes the attention known to Transformers; harmless when repeated."""
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, _no_mask)
