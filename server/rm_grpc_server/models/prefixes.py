"""What conversations have in common at their beginning, found on token ids."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

IdArray = npt.NDArray[np.int32]
Order: TypeAlias = Callable[[Sequence[IdArray]], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]


def sort_key(ids: IdArray) -> bytes:
    """Bytes in whose order conversations that begin alike stand together: the ids as they lie in memory."""
    return ids.tobytes()


def common_prefix(left: IdArray, right: IdArray) -> int:
    """How many leading ids are equal."""
    length = min(len(left), len(right))
    different = np.flatnonzero(left[:length] != right[:length])
    return int(different[0]) if len(different) else length


def order_with_numpy(conversations: Sequence[IdArray]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """See `order_by_ids`."""
    order = sorted(range(len(conversations)), key=lambda at: conversations[at].astype(">u4").tobytes())
    shared = [common_prefix(conversations[one], conversations[other]) for one, other in itertools.pairwise(order)]
    return np.array(order, dtype=np.int64), np.array([0, *shared][: len(order)], dtype=np.int64)


def _order() -> Order:
    try:
        from rm_grpc_native import order_by_ids as native
    except ImportError:
        return order_with_numpy
    return native


order_by_ids = _order()
"""The order of conversations by their ids, equal ones as they came, and how many leading ids each shares with the one before.

Both are [conversations] int64; the first shares none. Natively where rm-grpc-native is installed.
"""
