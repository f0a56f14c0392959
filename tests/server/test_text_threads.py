"""Streams take turns at the text threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from rm_grpc_server.engine.text_threads import TextThreads


@pytest.fixture
async def threads() -> AsyncIterator[TextThreads]:
    made = TextThreads(1)
    yield made
    made.close()


async def test_a_stream_with_much_does_not_hold_up_one_with_little(threads: TextThreads) -> None:
    release, done = threading.Event(), list[str]()

    def job(name: str) -> None:
        release.wait(10)
        done.append(name)

    much = [asyncio.ensure_future(threads.run("much", job, f"much {at}")) for at in range(20)]
    await asyncio.sleep(0)
    little = [asyncio.ensure_future(threads.run("little", job, f"little {at}")) for at in range(2)]
    await asyncio.sleep(0.05)
    release.set()
    await asyncio.gather(*much, *little)
    assert [name for name in done if name.startswith("much")] == [f"much {at}" for at in range(20)]
    assert done.index("little 0") <= 4
    assert done.index("little 1") <= 6


async def test_a_job_gives_its_result_and_its_error(threads: TextThreads) -> None:
    assert await threads.run(None, int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.run(None, int, "seven")


async def test_cancelled_jobs_leave_their_turns_to_others(threads: TextThreads) -> None:
    release = threading.Event()
    first = [asyncio.ensure_future(threads.run("a", release.wait, 10)) for _ in range(2)]
    waiting = [asyncio.ensure_future(threads.run("a", int, str(at))) for at in range(50)]
    await asyncio.sleep(0.05)
    for at, one in enumerate(waiting):
        if at % 2:
            one.cancel()
    release.set()
    await asyncio.sleep(0)
    waiting[0].cancel()  # perhaps just when its turn came
    found = await asyncio.gather(*first, *waiting, return_exceptions=True)
    assert found[:2] == [True, True]
    assert found[4::2] == list(range(2, 50, 2))
    assert threads._room == 2, "no turn was lost"
    assert await asyncio.gather(*(threads.run(at % 3, int, str(at)) for at in range(30))) == list(range(30))
