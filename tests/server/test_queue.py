"""The queue: batches within their budget, nothing lost, and no entry that is done or late in a batch."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_grpc.errors import ItemCancelledError, OverloadedError
from rm_grpc.types import Item, ScoreOptions
from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.engine.queue import TokenBudgetQueue
from rm_grpc_server.text.encoding import Encoding


def entry(tokens: int) -> Entry:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[object] = loop.create_future()
    loop.close()
    made = Entry(Item("a", "x"), ScoreOptions(), future, None, 0.0)  # type: ignore[arg-type]
    made.encoding = Encoding(np.zeros(tokens, dtype=np.int32), "")
    return made


@given(st.lists(st.tuples(st.integers(1, 60), st.sampled_from(["waits", "done"])), max_size=30), st.integers(1, 100))
def test_every_entry_comes_out_once(entries: list[tuple[int, str]], budget: int) -> None:
    queue = TokenBudgetQueue(max_items=100, max_tokens=10_000)
    made = []
    for tokens, state in entries:
        one = entry(tokens)
        queue.put(one)
        made.append((one, state))
        if state == "done":
            one.future.cancel()
    batched: list[Entry] = []
    while queue.items:
        batch = queue.take_batch(budget)
        assert sum(one.tokens for one in batch) <= budget or len(batch) == 1
        batched += batch
    assert batched == [one for one, state in made if state == "waits"], "first come, first served"
    assert queue.tokens == 0


def test_a_batch_is_filled() -> None:
    queue = TokenBudgetQueue(max_items=10, max_tokens=1000)
    for tokens in (40, 40, 20, 1):
        queue.put(entry(tokens))
    assert [one.tokens for one in queue.take_batch(100)] == [40, 40, 20]


def test_what_is_done_leaves_its_place() -> None:
    queue = TokenBudgetQueue(max_items=2, max_tokens=1000)
    first, second = entry(5), entry(6)
    queue.put(first)
    queue.put(second)
    queue.discard(first)
    queue.discard(first)
    assert (queue.items, queue.tokens) == (1, 6)
    queue.put(entry(7))
    assert queue.take_all()[0] is second


def test_past_its_bounds_it_refuses_with_a_time_to_wait() -> None:
    queue = TokenBudgetQueue(max_items=2, max_tokens=50)
    queue.put(entry(60))  # longer than the bound, but alone
    with pytest.raises(OverloadedError) as caught:
        queue.put(entry(1))
    assert caught.value.retry_delay
    queue.take_all()
    queue.put(entry(1))
    queue.put(entry(1))
    with pytest.raises(OverloadedError):
        queue.put(entry(1))


def test_an_entry_keeps_its_first_outcome() -> None:
    async def resolve_twice() -> object:
        one = entry(1)
        one.future = asyncio.get_running_loop().create_future()
        one.resolve(ItemCancelledError("first"))
        one.resolve(ItemCancelledError("second"))
        return await one.future

    assert str(asyncio.run(resolve_twice())) == "first"
