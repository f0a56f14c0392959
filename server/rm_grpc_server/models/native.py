"""What `rm_grpc_native` computes of a forward pass: float32 on an x86 CPU."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor


@cache
def _installed() -> ModuleType | None:
    """An extra of its own: the server works without it."""
    try:
        import rm_grpc_native
    except ImportError:
        return None
    return rm_grpc_native


@cache
def native_for(device: torch.device, dtype: torch.dtype) -> ModuleType | None:
    """It, where it is installed and made for this."""
    native = _installed() if device.type == "cpu" and dtype == torch.float32 else None
    return native if native is not None and native.tile_instructions() else None


def array_of(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """What lies in a tensor of float32, without a copy unless the numbers of its last dimension are apart."""
    return (tensor if tensor.stride(-1) == 1 else tensor.contiguous()).numpy()
