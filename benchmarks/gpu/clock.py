"""Time on the device: events where it has a clock of its own, else the host's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class DeviceClock:
    """When the device began and ended pieces of work."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._spans: list[tuple[Any, Any]] = []

    @contextmanager
    def span(self) -> Iterator[None]:
        """A piece of work: what the current stream is given inside the block."""
        begin = self._mark()
        yield
        self._spans.append((begin, self._mark()))

    def take(self) -> list[tuple[float, float]]:
        """Seconds from the first begin to each piece's begin and end, in order; then forgets them. Waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
        spans, self._spans = self._spans, []
        return [(self._between(spans[0][0], begin), self._between(spans[0][0], end)) for begin, end in spans]

    def idle_share(self) -> float:
        """Share of the time from the first piece's begin to the last one's end in which none was under way; forgets them."""
        spans = self.take()
        return 1.0 - sum(end - begin for begin, end in spans) / spans[-1][1]

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch types it not
        event.record()
        return event

    def _between(self, first: Any, second: Any) -> float:
        return float(first.elapsed_time(second)) / 1e3 if self._on_gpu else float(second - first)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of one large matrix product, repeated for about half a second on a GPU."""
    rows, width, repeats = (16_384, 8192, 120) if device.type == "cuda" else (1024, 512, 10)
    left = torch.randn(rows, width, device=device, dtype=dtype)
    right = torch.randn(width, width, device=device, dtype=dtype)
    product = torch.mm(left, right)
    clock = DeviceClock(device)
    with clock.span():
        for _ in range(repeats):
            torch.mm(left, right, out=product)
    return 2.0 * rows * width * width * repeats / clock.take()[0][1]
