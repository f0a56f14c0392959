"""Whether an answer ends with the right sum; its caller sends the sum as metadata."""

from __future__ import annotations

from collections.abc import Sequence

from rm_grpc.scorer import Request


def score(requests: Sequence[Request]) -> list[float]:
    """1 for a right answer, 0 for another."""
    return [float(request.response.rpartition("=")[2] == request.metadata["sum"]) for request in requests]
