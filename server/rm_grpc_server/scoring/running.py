"""What the scorers of a replica have in common, whatever runs in their stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from rm_grpc.errors import ScoreNotFiniteError
from rm_grpc_server.models.backbone import Backbone
from rm_grpc_server.scoring.protocols import Judge, Outcome

_T = TypeVar("_T")


def within_memory(forward: Callable[[], _T]) -> _T:
    """What a forward pass gives.

    Raises:
        MemoryError: the device has not enough memory for it; what it held is given back.
    """
    try:
        return forward()
    except torch.OutOfMemoryError as error:
        told = str(error)
    torch.cuda.empty_cache()  # out here, where nothing of the failed pass is held by its exception any more
    raise MemoryError(told)


def judged(judge: Judge, values: Sequence[Sequence[float]], dtype: str) -> Outcome:
    """What a conversation's values mean; an error where one is not finite."""
    wrong = next((value for row in values for value in row if not math.isfinite(value)), None)
    if wrong is None:
        return judge(values)
    return ScoreNotFiniteError(f"the model gave {wrong}; its weights or this input overflow {dtype}")


def not_packed_rightly(backbone: Backbone) -> str:
    """What it means that packed numbers are not Transformers' own."""
    return f"this architecture ({type(backbone.model).__name__}) is not computed rightly when packed, and is not served"
