"""Heads of many objectives under a gate that reads the prompt: ArmoRM and QRM, as their modeling files compute them, in
float32.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.models.head_names import GATED
from rm_grpc_server.models.weights import WeightFiles

_GATE_LAYER = re.compile(r"gating\.layers\.(\d+)\.weight$")
Step = Callable[[Tensor], Tensor]


class GatedObjectives:
    """What a row of hidden states gives: the objectives, the objectives after the transform, and the gate's weights.

    Only the last token's objectives and the gate position's weights are used; computing both for each costs nothing.

    Args:
        quantiles: outputs of the regression for each objective, whose mean it is (QRM); 1 where it has one.
        temperature: of the gate's softmax.

    Raises:
        ModelLoadError: tensors are missing.
    """

    def __init__(self, files: WeightFiles, source: str, *, quantiles: int, temperature: float, device: torch.device) -> None:
        if missing := [name for name in GATED if name not in files.names]:
            raise ModelLoadError(f"{source}: lacks {', '.join(missing)}; is gated_multi the right scorer.kind for it?")
        self._regression, self._transform, self._scale = (files.read(name).to(device).float() for name in GATED)
        self.objectives = self._regression.shape[0] // quantiles
        self._quantiles = quantiles
        self._temperature = temperature
        self._gate = _steps(files, device)

    def __call__(self, rows_RH: Tensor, /) -> Tensor:
        """[rows, 3 * objectives] float32."""
        rows_RH = rows_RH.to(self._regression.device).float()
        quantiles = torch.nn.functional.linear(rows_RH, self._regression)
        objectives = quantiles.reshape(len(rows_RH), self.objectives, self._quantiles).mean(dim=2)
        gate = rows_RH
        for step in self._gate:
            gate = step(gate)
        weights = (gate / self._temperature).softmax(dim=1) * self._scale[0]
        return torch.cat([objectives, objectives @ self._transform, weights], dim=1)


def _steps(files: WeightFiles, device: torch.device) -> list[Step]:
    """The gate: linear layers with ReLU behind all but the last, and batch norms (of their running statistics) where they
    stand.
    """
    numbers = sorted(int(match.group(1)) for name in files.names if (match := _GATE_LAYER.match(name)))
    steps: list[Step] = []
    for number in numbers:
        place = f"gating.layers.{number}."
        tensors = {
            name.removeprefix(place): files.read(name).to(device).float()
            for name in files.names
            if name.startswith(place) and not name.endswith("num_batches_tracked")
        }
        if "running_mean" in tensors:
            steps.append(_norm(tensors))
        else:
            steps.append(_linear(tensors, relu=number != numbers[-1]))
    return steps


def _linear(tensors: dict[str, Tensor], *, relu: bool) -> Step:
    def step(rows: Tensor) -> Tensor:
        values = torch.nn.functional.linear(rows, tensors["weight"], tensors.get("bias"))
        return values.relu() if relu else values

    return step


def _norm(tensors: dict[str, Tensor]) -> Step:
    def step(rows: Tensor) -> Tensor:
        return torch.nn.functional.batch_norm(
            rows, tensors["running_mean"], tensors["running_var"], tensors["weight"], tensors["bias"]
        )

    return step
