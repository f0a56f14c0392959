"""Linear layers in float32 on an x86 CPU, by oneDNN: faster than what torch takes by itself, above all for long rows."""

from __future__ import annotations

import logging
import platform

import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)
_PROBE_ROWS = 4
_ROUNDING = 1e-4
"""Most that the products of rows drawn from a normal distribution may differ, as a share of the largest."""


class PackedLinear(torch.nn.Linear):
    """A linear layer whose weights oneDNN has laid out once, in place of torch's own.

    Args:
        linear: the layer; its weights are copied, and may be dropped.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        torch.nn.Module.__init__(self)
        self.out_features, self.in_features = linear.weight.shape  # of a part, where a layer is spread over several ranks
        self.bias = linear.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # torch has a parameter here
        """The weights, [out, in] float32, laid out as ever: made anew at each call."""
        return self._packed.to_dense()  # type: ignore[no-any-return]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """[..., in] to [..., out]."""
        return torch.ops.mkldnn._linear_pointwise(input, self._packed, self.bias, "none", [], "")  # type: ignore[no-any-return]


@torch.inference_mode()
def pack_linears(module: torch.nn.Module) -> None:
    """Puts packed layers in the place of a module's linear ones, where that is known to be faster; each is tried first."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.enabled:
        return
    for parent in module.modules():
        for name, layer in list(parent.named_children()):
            if type(layer) is torch.nn.Linear and _is_plain(layer):
                packed = PackedLinear(layer)
                if _agree(layer, packed):
                    setattr(parent, name, packed)
                else:
                    _LOG.warning("oneDNN multiplies %s otherwise than torch does; it stays as it is", name)


def _is_plain(layer: torch.nn.Linear) -> bool:
    """Whether it is float32 on the CPU, whole, and a call of it does nothing else."""
    weight = layer.weight
    is_float32 = type(weight) is torch.nn.Parameter and weight.device.type == "cpu" and weight.dtype == torch.float32
    return is_float32 and not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


def _agree(layer: torch.nn.Linear, packed: PackedLinear) -> bool:
    rows = torch.randn(_PROBE_ROWS, packed.in_features, generator=torch.Generator().manual_seed(0))
    expected = layer(rows)
    return bool((packed(rows) - expected).abs().max() <= _ROUNDING * expected.abs().max())
