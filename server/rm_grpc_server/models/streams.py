"""What runs beside what on a device: copies in, computation, and copies out, each on a stream of its own.

Without CUDA there are no streams, and the same code runs in order.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


class Mark:
    """A point in a stream that others can wait for. On the CPU it is reached at once."""

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]  # torch types it not
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(device))
        self._device = device

    def hold_back(self) -> None:
        """Lets the current stream wait for it; the caller goes on at once."""
        if self._event is not None:
            torch.cuda.current_stream(self._device).wait_event(self._event)

    def reached(self) -> None:
        """Waits for it. For the thread that reads results back, and no other."""
        if self._event is not None:
            self._event.synchronize()


class Streams:
    """The streams of one device.

    A model whose layers are spread over several devices has none of its own: its work goes from one device's current stream
    to the next's, which streams of the first would not wait for.
    """

    def __init__(self, device: torch.device, *, is_spread: bool = False) -> None:
        self._device = torch.device("cpu") if is_spread else device
        on_gpu = self._device.type == "cuda"
        streams = [torch.cuda.Stream(device) if on_gpu else None for _ in range(3)]  # type: ignore[no-untyped-call]  # as above
        self._copy, self._compute, self._read = streams

    def copy_in(self) -> AbstractContextManager[object]:
        """Copies to the device."""
        return self._on(self._copy)

    def compute(self) -> AbstractContextManager[object]:
        """The forward pass."""
        return self._on(self._compute)

    def copy_out(self) -> AbstractContextManager[object]:
        """Copies from the device."""
        return self._on(self._read)

    def mark(self) -> Mark:
        """The end of what the current stream was given so far."""
        return Mark(self._device)

    def to_host(self, tensor: Tensor) -> Tensor:
        """Begins a copy into pinned memory; it is there when a mark set after it is reached."""
        if self._device.type != "cuda":
            return tensor.cpu()
        tensor.record_stream(torch.cuda.current_stream(self._device))
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return host.copy_(tensor, non_blocking=True)

    def lend(self, tensor: Tensor) -> None:
        """Keeps a tensor of another stream in memory for as long as the current one works with it."""
        if self._device.type == "cuda":
            tensor.record_stream(torch.cuda.current_stream(self._device))

    @staticmethod
    def _on(stream: torch.cuda.Stream | None) -> AbstractContextManager[object]:
        return nullcontext() if stream is None else torch.cuda.stream(stream)
