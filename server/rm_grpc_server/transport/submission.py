"""Items of one call, in the engine for as long as somebody waits for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rm_grpc.errors import ItemCancelledError
from rm_grpc.types import Item, ScoreOptions
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.engine.entry import Entry


@contextmanager
def submitted(
    engine: Engine, items: Sequence[Item], options: ScoreOptions, *, timeout: float | None = None, sizes: Sequence[int] = ()
) -> Iterator[list[Entry]]:
    """The items' entries; what is not over when the block ends is taken back."""
    entries = engine.submit(items, options, timeout=timeout, stream=object(), sizes=sizes)
    try:
        yield entries
    finally:
        for entry in entries:
            entry.resolve(ItemCancelledError("the call ended"))
