"""A batch without padding: all conversations one after another in one row of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Conversations as segments of one row; a segment attends to itself only.

    Attributes:
        input_ids_T: token ids, [tokens] int64.
        position_ids_T: each token's position in its segment, [tokens] int64.
        cu_seqlens: where segments start, and the total: [segments + 1].
        reads_R: positions in the row whose hidden states are read, grouped by segment, [rows] int64.
        reads_per_segment: how many of the rows belong to each segment.
    """

    input_ids_T: npt.NDArray[np.int64]
    position_ids_T: npt.NDArray[np.int64]
    cu_seqlens: tuple[int, ...]
    reads_R: npt.NDArray[np.int64]
    reads_per_segment: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens in the row."""
        return self.cu_seqlens[-1]


def pack(segments: Sequence[npt.NDArray[np.int32]], reads: Sequence[Sequence[int]]) -> PackedBatch:
    """Lays segments into one row; `reads` are positions within each segment."""
    lengths = [len(ids) for ids in segments]
    starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    return PackedBatch(
        input_ids_T=np.concatenate(segments).astype(np.int64),
        position_ids_T=np.concatenate([np.arange(length, dtype=np.int64) for length in lengths]),
        cu_seqlens=tuple(starts),
        reads_R=np.array([start + at for start, row in zip(starts, reads, strict=False) for at in row], dtype=np.int64),
        reads_per_segment=tuple(len(row) for row in reads),
    )
