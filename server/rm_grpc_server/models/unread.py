"""Leaves out what nobody reads: the last layer's work on tokens whose hidden states no scorer looks at."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from rm_grpc_server.models.attention import Attending, KeysTaken


class LastLayer:
    """Runs a decoder's last layer on the read tokens only; they still attend to the keys of all.

    The layer is called twice. The first call ends at its attention, where the keys and values of all tokens are known; the
    second has the read tokens as its input. What is left out is every product after the keys: most of a layer.
    """

    def __init__(self, layer: torch.nn.Module) -> None:
        self._forward = layer.forward

    @classmethod
    def install(cls, decoder: torch.nn.Module) -> bool:
        """Puts itself before the last layer; whether the decoder is of the usual form, so that this can be done."""
        layers = getattr(decoder, "layers", None)
        if not isinstance(layers, torch.nn.ModuleList) or not len(layers):
            return False
        layer: Any = layers[-1]
        if "position_embeddings" not in inspect.signature(layer.forward).parameters:
            return False
        layer.forward = cls(layer)
        return True

    def __call__(self, hidden_states: Tensor, *args: Any, attending: Attending | None = None, **kwargs: Any) -> Any:
        """The layer's forward; [1, read rows, hidden] where the batch says what is read."""
        if attending is None:
            return self._forward(hidden_states, *args, **kwargs)
        if args:
            raise RuntimeError("the decoder passes its last layer arguments by position, which cannot be told apart")
        attending.take_keys()
        try:
            self._forward(hidden_states, attending=attending, **kwargs)
        except KeysTaken:
            pass
        else:
            raise RuntimeError("the last layer did not reach its attention")
        tokens = hidden_states.shape[1]
        picked = {name: _pick(value, attending, tokens) for name, value in kwargs.items()}
        return self._forward(_pick(hidden_states, attending, tokens), attending=attending, **picked)


def _pick(value: Any, attending: Attending, tokens: int) -> Any:
    """What belongs to the tokens, for the read ones: hidden states, position ids, rotary embeddings; [1, tokens, ...]."""
    if isinstance(value, tuple):
        return tuple(_pick(one, attending, tokens) for one in value)
    if isinstance(value, Tensor) and value.ndim > 1 and value.shape[1] == tokens:
        return value[:, attending.read_rows.on(value.device)]
    return value
