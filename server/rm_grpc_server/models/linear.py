"""Linear layers by `rm_grpc_native`, where their numbers are torch's to the bit: float32 on an x86 CPU.

Its products are added up in the order of MKL on AMD's processors, over weights that are laid out once, and a row's numbers do
not depend on the rows beside it. Where torch adds up otherwise its own products stay: scores that are read beside the model
card's are not to differ for speed alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from rm_grpc_server.models.native import array_of, native_for

_LOG = logging.getLogger(__name__)
_PROBE_ROWS = 64


class NativeLinear(torch.nn.Linear):
    """In place of a linear layer, whose weights it lays out anew.

    Attributes:
        packed: [outputs / 32 rounded up, in_features, 32] float32.
        is_plain: whether torch is to multiply, for reference runs.
    """

    packed: Tensor

    def __init__(self, linear: torch.nn.Linear) -> None:
        torch.nn.Module.__init__(self)
        weight = linear.weight.detach().contiguous()
        self.out_features, self.in_features = weight.shape  # of a part, where a layer is spread over several ranks
        self.bias = linear.bias
        self.is_plain = False
        native = native_for(weight.device, weight.dtype)
        assert native is not None  # whoever puts it in place has asked
        self._native = native
        self._panels = native.pack_weights(weight.numpy(), threads=torch.get_num_threads())
        self.register_buffer("packed", torch.from_numpy(self._panels), persistent=False)
        self._offsets = None if self.bias is None else self.bias.detach().numpy()

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # torch has a parameter here
        """The weights, [out_features, in_features], copied anew at each call."""
        return self.packed.transpose(1, 2).reshape(-1, self.in_features)[: self.out_features]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """[..., in_features] to [..., out_features]; by torch for a caller who wants gradients."""
        if self.is_plain or input.requires_grad:
            return functional.linear(input, self.weight, self.bias)
        rows = input.reshape(-1, self.in_features)
        output = rows.new_empty(len(rows), self.out_features)
        self._native.linear(array_of(rows), self._panels, self._offsets, output=output.numpy(), threads=torch.get_num_threads())
        return output.view(*input.shape[:-1], self.out_features)


@torch.no_grad()
def pack_linears(module: torch.nn.Module) -> None:
    """Puts native layers in the place of a module's linear ones where the bits stay the same, tried once for each shape."""
    is_same: dict[tuple[int | bool, ...], bool] = {}
    for parent in module.modules():
        for name, layer in list(parent.named_children()):
            if type(layer) is not torch.nn.Linear or not _is_alone(layer):
                continue
            shape = (*layer.weight.shape, layer.bias is not None)
            if not is_same.get(shape, True):
                continue
            native = NativeLinear(layer)
            if shape not in is_same:
                is_same[shape] = _agree(layer, native)
            if is_same[shape]:
                setattr(parent, name, native)
    if others := [shape for shape, same in is_same.items() if not same]:
        _LOG.info("torch adds up otherwise here, and multiplies itself in layers of %s outputs, inputs, bias", others)


@contextmanager
def plain_products(module: torch.nn.Module) -> Iterator[None]:
    """All products of the module by torch, on weights as they were in the file."""
    layers = [layer for layer in module.modules() if isinstance(layer, NativeLinear)]
    for layer in layers:
        layer.is_plain = True
    try:
        yield
    finally:
        for layer in layers:
            layer.is_plain = False


def _is_alone(layer: torch.nn.Linear) -> bool:
    """Whether it is whole, computed here, and a call of it does nothing else."""
    weight = layer.weight
    is_ours = type(weight) is torch.nn.Parameter and native_for(weight.device, weight.dtype) is not None
    return is_ours and not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


def _agree(layer: torch.nn.Linear, native: NativeLinear) -> bool:
    rows = torch.randn(_PROBE_ROWS, native.in_features, generator=torch.Generator().manual_seed(0))
    return torch.equal(layer(rows), native(rows))
