"""Heads that turn a hidden state into numbers: linear or a small perceptron, under whatever name their checkpoint has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rm_grpc_server.errors import ConfigError, ModelLoadError
from rm_grpc_server.models.head_names import beside_body, find_heads, layers_of
from rm_grpc_server.models.weights import WeightFiles


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer: weight [out, in] and bias [out] in float32."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, rows: Tensor) -> Tensor:
        """[rows, out]."""
        return torch.nn.functional.linear(rows, self.weight, self.bias)


class Head:
    """Linear layers with ReLU between them, in float32.

    Args:
        normalizer: mean and standard deviation that the outputs are normalised with.

    Attributes:
        name: where the checkpoint has it.
        outputs: how many numbers it gives.
    """

    def __init__(self, name: str, layers: Sequence[Layer], normalizer: tuple[float, float] = (0.0, 1.0)) -> None:
        self.name = name
        self._layers = layers
        self._mean, self._std = normalizer
        self.outputs = layers[-1].weight.shape[0]

    @property
    def inputs(self) -> int:
        """Size of the hidden states that it reads."""
        return self._layers[0].weight.shape[1]

    def __call__(self, rows_RH: Tensor, /) -> Tensor:
        """The head's outputs, [rows, outputs] float32."""
        first, *others = self._layers
        values = first(rows_RH.to(first.weight.device).float())
        for layer in others:
            values = layer(values.relu())
        return (values - self._mean) / self._std


def load_head(files: WeightFiles, source: str, *, name: str | None, device: torch.device, config: Mapping[str, Any]) -> Head:
    """Reads a head.

    Args:
        config: the checkpoint's config.json.
        source: the checkpoint, for messages.
        name: where it is; None looks for the known names.

    Raises:
        ModelLoadError: there is none there.
        ConfigError: there are several, and none was named.
    """
    if name is None:
        name = _only_head(files, source)
    places = layers_of(name, files.names)
    if not places:
        raise ModelLoadError(f"{source}: has no head {name!r}; beside the body it has {_beside(files)}")
    return Head(name, [_layer(files, place, device) for place in places], _normalizer(files, config))


def _normalizer(files: WeightFiles, config: Mapping[str, Any]) -> tuple[float, float]:
    """Mean and standard deviation by which safe-rlhf's models normalise their scores, where their config says so.

    A cost is scaled only (safe_rlhf/models/normalizer.py and score_model). The published Beaver models have it switched off.
    """
    kind = config.get("score_type", "reward")
    if not config.get("do_normalize") or kind == "critic":
        return 0.0, 1.0
    if kind not in ("reward", "cost"):
        raise ModelLoadError(
            f"config.json: score_type {kind!r} is none of reward, cost and critic; how it is normalised is not known"
        )
    mean = float(files.read("normalizer.mean")) if kind == "reward" else 0.0
    return mean, math.sqrt(float(files.read("normalizer.var"))) + 1e-8


def _only_head(files: WeightFiles, source: str) -> str:
    found = find_heads(files.names)
    if not found:
        raise ModelLoadError(
            f"{source}: has no head under a known name, and one would be random; beside the body it has {_beside(files)}. "
            "Name it with scorer.head, or is this the right scorer.kind?"
        )
    if len(found) > 1:
        raise ConfigError(f"scorer.head: {source} has several heads, name one: {', '.join(found)}")
    return found[0]


def _beside(files: WeightFiles) -> str:
    return ", ".join(beside_body(files.names)[:8]) or "nothing"


def _layer(files: WeightFiles, place: str, device: torch.device) -> Layer:
    bias = f"{place}bias"
    return Layer(
        files.read(f"{place}weight").to(device).float(),
        files.read(bias).to(device).float() if bias in files.names else None,
    )
