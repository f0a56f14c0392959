"""The client's own failure; all others are in `rm_grpc.errors`."""

from __future__ import annotations

from collections.abc import Sequence

from rm_grpc.errors import RewardError
from rm_grpc.types import Result


class BatchFailedError(RewardError):
    """Some items of a list were not scored.

    Attributes:
        results: every item's result, in order, those that were scored too.
    """

    reason = "BATCH_FAILED"

    def __init__(self, results: Sequence[Result]) -> None:
        failed = [result for result in results if result.error is not None]
        first = failed[0]
        super().__init__(
            f"{len(failed)} of {len(results)} conversations were not scored; the first is number {first.index}: {first.error}"
        )
        self.results = list(results)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.results,))
