"""What a decoder computes number by number, in fewer passes over memory: float32 on the CPU.

Transformers writes a new tensor for each operation of a norm, a gate or a rotation. The same operations in the same order, in
place where nobody else reads a tensor, give the same bits; each module is tried at load, and keeps its own forward otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import Module, functional
from transformers.activations import SiLUActivation

Forward: TypeAlias = Callable[..., Any]
_ROTATE = "apply_rotary_pos_emb"
_TOKENS = 8
"""Of a trial."""


class InPlace:
    """Stands in a module's place as its forward, and leaves gradients to the module's own."""

    def __init__(self, own: Forward, lean: Forward) -> None:
        self._own = own
        self._lean = lean

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module's own forward gives."""
        return (self._own if torch.is_grad_enabled() else self._lean)(*args, **kwargs)


@torch.inference_mode()
def work_in_place(model: Module) -> None:
    """Gives norms, gated MLPs and attention layers forwards with fewer passes, where a trial gives the same bits."""
    if not all(weights.device.type == "cpu" and weights.dtype == torch.float32 for weights in model.parameters()):
        return
    for module in model.modules():
        if "forward" not in vars(module) and (lean := _norm(module) or _gated(module) or _rotating(module)) is not None:
            module.forward = InPlace(module.forward, lean)


@contextmanager
def as_written(model: Module) -> Iterator[None]:
    """All modules with the forwards that Transformers wrote, for reference runs."""
    replaced = [(module, forward) for module in model.modules() if isinstance(forward := vars(module).get("forward"), InPlace)]
    for module, _ in replaced:
        del module.forward
    try:
        yield
    finally:
        for module, forward in replaced:
            module.forward = forward


def _norm(module: Module) -> Forward | None:
    """For a root mean square norm, with its weights or one more than these (Gemma) as factors."""
    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, Tensor) or epsilon is None or weight.ndim != 1:
        return None
    rows = _random(1, _TOKENS, len(weight))
    leaner = (partial(_normalized, factor=factor, epsilon=epsilon) for factor in (weight.detach(), 1.0 + weight.detach()))
    return next((lean for lean in leaner if _agree(lean, module.forward, rows)), None)


def _normalized(hidden: Tensor, *, factor: Tensor, epsilon: float) -> Tensor:
    variance = hidden.pow(2).mean(-1, keepdim=True)
    return (hidden * torch.rsqrt(variance + epsilon)).mul_(factor)


def _gated(module: Module) -> Forward | None:
    """For down(activation(gate(x)) * up(x))."""
    activation = getattr(module, "act_fn", None)
    named = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    layers = [layer for layer in named if isinstance(layer, torch.nn.Linear)]
    if activation is None or len(layers) < len(named):
        return None
    if isinstance(activation, SiLUActivation | torch.nn.SiLU):
        activation = partial(functional.silu, inplace=True)

    def lean(hidden: Tensor) -> Tensor:
        return down(activation(gate(hidden)).mul_(up(hidden)))  # type: ignore[no-any-return]

    gate, up, down = layers
    rows = _random(1, _TOKENS, gate.in_features)
    return lean if _agree(lean, module.forward, rows) else None


def _rotating(module: Module) -> Forward | None:
    """For attention whose queries and keys are rotated by halves: its own forward, with a rotation that makes fewer tensors.

    The rotation is a function of the module's source file; a copy of the forward that finds ours under its name leaves the
    file as it is.
    """
    written = type(module).forward
    width = getattr(module, "head_dim", None)
    if not isinstance(written, FunctionType) or _ROTATE not in written.__code__.co_names or not isinstance(width, int):
        return None
    own: Forward | None = written.__globals__.get(_ROTATE)
    if own is None:
        return None

    def rotated(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if args or kwargs or cos.shape[-1] != query.shape[-1]:
            return own(query, key, cos, sin, *args, **kwargs)  # type: ignore[no-any-return]
        return _rotated(query, cos[:, None], sin[:, None]), _rotated(key, cos[:, None], sin[:, None])

    heads, angles = _random(2, 1, 2, _TOKENS, width), _random(2, 1, _TOKENS, width)
    if not _agree(rotated, own, *heads, *angles):
        return None
    names = {**written.__globals__, _ROTATE: rotated}
    copy = FunctionType(written.__code__, names, written.__name__, written.__defaults__, written.__closure__)
    copy.__kwdefaults__ = written.__kwdefaults__
    return MethodType(copy, module)


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each head's first half x and second half y as (x cos - y sin, y cos + x sin); [1, heads, tokens, head_dim]."""
    half = heads.shape[-1] // 2
    output = heads * cos
    output[..., :half] -= heads[..., half:] * sin[..., :half]
    output[..., half:] += heads[..., :half] * sin[..., half:]
    return output


def _agree(lean: Forward, own: Forward, *inputs: Tensor) -> bool:
    """Whether both give the same bits; what takes other inputs than these is of another form."""
    try:
        return all(torch.equal(one, other) for one, other in zip(lean(*inputs), own(*inputs), strict=True))
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
