"""What the text room hands on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TokenArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Encoding:
    """One conversation as the model reads it.

    Attributes:
        ids: token ids, [tokens] int32, never empty, at most the model's maximum length.
        text: the rendered text; empty where the caller brought token ids.
        truncated: whether turns were dropped to make it fit.
        render_seconds, encode_seconds: time spent; items encoded together each carry the time of all.
    """

    ids: TokenArray
    text: str
    truncated: bool = False
    render_seconds: float = 0.0
    encode_seconds: float = 0.0
