"""Items of one call, in the engine for as long as somebody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from rm_grpc.errors import ItemCancelledError, RewardError
from rm_grpc.types import Item, ScoreOptions
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.engine.entry import Entry, Outcome


@contextmanager
def submitted(
    engine: Engine,
    items: Sequence[Item | RewardError],
    options: ScoreOptions,
    *,
    sizes: Sequence[int],
    timeout: float | None = None,
) -> Iterator[list[asyncio.Future[Outcome]]]:
    """Each item's outcome to come; what is not over when the block ends is taken back.

    Args:
        engine: that scores.
        items: what is to be scored, or why it cannot be: such an item is over at once.
        options: how.
        sizes: bytes of each of `items`.
        timeout: seconds for all of them.
    """
    accepted = [(item, size) for item, size in zip(items, sizes, strict=True) if isinstance(item, Item)]
    entries = engine.submit(
        [item for item, _ in accepted], options, timeout=timeout, stream=object(), sizes=[size for _, size in accepted]
    )
    try:
        of_accepted = (_future(entry) for entry in entries)
        yield [next(of_accepted) if isinstance(item, Item) else _over(item) for item in items]
    finally:
        for entry in entries:
            entry.resolve(ItemCancelledError("the call ended"))


async def next_over(waiting: dict[asyncio.Future[Outcome], int]) -> list[int]:
    """Takes those that are over, at least one, out of what waits; their positions, in order.

    Args:
        waiting: each future's position.
    """
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    return sorted(waiting.pop(future) for future in done)


def _future(entry: Entry) -> asyncio.Future[Outcome]:
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    entry.watch(partial(_tell, future))
    return future


def _over(error: RewardError) -> asyncio.Future[Outcome]:
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    future.set_result(error)
    return future


def _tell(future: asyncio.Future[Outcome], entry: Entry, outcome: Outcome) -> None:
    del entry
    if not future.done():  # whoever awaited it may have been cancelled
        future.set_result(outcome)
