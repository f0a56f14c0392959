"""Models from their configs alone, with random weights made on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig, Qwen3Config

from rm_grpc_server.models.attention import PACKED, register

_CONFIGS = {"llama": LlamaConfig, "qwen3": Qwen3Config}


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a model for sequence classification with one label.

    Attributes:
        family: llama or qwen3.
        batches: batches of a slice of the stream of rollouts.
        groups: groups of a slice of the stream of groups.
        budget: tokens of a batch.
        vocabulary: rows of the embedding, which no product depends on.
    """

    family: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    theta: float
    batches: int
    groups: int
    budget: int = 16_384
    vocabulary: int = 32_768

    @property
    def attention_weights(self) -> int:
        """Weights of one layer's queries, keys and values."""
        return self.hidden * self.head_dim * (self.heads + 2 * self.key_value_heads)

    @property
    def other_weights(self) -> int:
        """Weights of one layer's matrices behind its attention."""
        return self.hidden * self.head_dim * self.heads + 3 * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """Weights of the layers' matrices, without embeddings and norms."""
        return self.layers * (self.attention_weights + self.other_weights)

    def flops(self, lengths: Sequence[int]) -> float:
        """Operations of the whole model on conversations of these lengths, causal attention included."""
        width = self.heads * self.head_dim
        return sum(2.0 * self.parameters * n + 2.0 * self.layers * width * n * (n + 1) for n in lengths)

    def computed_flops(self, lengths: Sequence[int]) -> float:
        """The same without what the last layer leaves out where one token of each conversation is read."""
        width = self.heads * self.head_dim
        left_out = sum(2.0 * self.other_weights * (n - 1) + 2.0 * width * n * (n - 1) for n in lengths)
        return self.flops(lengths) - left_out


SHAPES = {
    "0.6B": Shape("qwen3", 1024, 3072, 28, 16, 8, 128, theta=1e6, batches=64, groups=72),
    "8B": Shape("llama", 4096, 14336, 32, 32, 8, 128, theta=5e5, batches=12, groups=27),
}
"""Qwen3-0.6B and Llama-3.1-8B, as their public configs say but for the vocabulary."""
TINY = {
    "tiny qwen3": Shape("qwen3", 128, 256, 3, 4, 2, 32, theta=1e6, batches=4, groups=4, budget=2048, vocabulary=1024),
    "tiny llama": Shape("llama", 128, 256, 3, 4, 2, 32, theta=5e5, batches=4, groups=4, budget=2048, vocabulary=1024),
}
"""For the CPU, to run the same code."""


@torch.no_grad()
def build(shape: Shape, device: torch.device, dtype: torch.dtype) -> Any:
    """A model under packed attention, whose scores differ between conversations.

    Weights as small as Transformers draws them would make every last token look the same.
    """
    torch.manual_seed(0)
    config = _CONFIGS[shape.family](
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta},
        num_labels=1,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    register()
    with device:
        model: Any = AutoModelForSequenceClassification.from_config(config, dtype=dtype).eval()
    model.set_attn_implementation(PACKED)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.normal_(1.0, 0.1)
        elif "embed" in name:
            parameter.normal_()
        else:
            gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.0
            parameter.normal_(0.0, gain * parameter.shape[1] ** -0.5)
    return model
