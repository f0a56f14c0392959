"""The scheduler: batches within their budget, groups together, nobody starved, fair between streams, nothing lost.

Everything runs on a clock that the tests turn; the simulator plays a device of a given speed.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rm_grpc.errors import OverloadedError
from rm_grpc_server.engine.scheduler import BatchShape, Bounds, Scheduler
from rm_grpc_server.models.packed import FixedShape, pack
from rm_grpc_server.text.encoding import TokenArray

BUDGET = 512


@dataclass(eq=False)
class Job:
    """Something that waits."""

    ids: TokenArray
    stream: Hashable = "s"
    group: str = ""
    queued: float = 0.0
    over_at: float = float("inf")
    scored_at: float | None = None

    def is_over(self, now: float) -> bool:
        return now >= self.over_at


def job(length: int, *, seed: int = 0, prompt: TokenArray | None = None, **fields: object) -> Job:
    """Random ids behind an optional prompt; different seeds share no beginning."""
    tail = np.random.default_rng([seed, length]).integers(5, 1000, length, dtype=np.int32)
    tail[0] = 1000 + seed
    return Job(tail if prompt is None else np.concatenate([prompt, tail]), **fields)  # type: ignore[arg-type]


def prompt(length: int, seed: int = 0) -> TokenArray:
    ids = np.random.default_rng(seed).integers(5, 1000, length, dtype=np.int32)
    ids[0] = 100_000 + seed
    return ids


def scheduler(
    budget: int = BUDGET, *, fill: int = 0, share: bool = True, fixed: bool = False, **settings: object
) -> Scheduler[Job]:
    bounds = Bounds(100_000, 100_000_000)
    return Scheduler(shape=BatchShape(budget, fill or budget, share, fixed), bounds=bounds, **settings)  # type: ignore[arg-type]


def computed(batch: Iterable[Job], *, share: bool = True) -> int:
    """What the packer makes of a batch."""
    ids = [one.ids for one in batch]
    return pack(ids, [(len(one) - 1,) for one in ids], share=share).tokens


@dataclass
class Simulator:
    """A device that computes `rate` tokens a second, fed by a scheduler, on a clock of its own."""

    scheduler: Scheduler[Job]
    rate: float = 10_000.0
    now: float = 0.0
    batches: list[list[Job]] = field(default_factory=list)

    def run(self, arrivals: list[tuple[float, Job]], until: float = float("inf")) -> None:
        """Lets jobs arrive at their times, and scores until all are done or the time is up."""
        pending = sorted(arrivals, key=lambda one: one[0])
        at = 0
        while self.now < until and (at < len(pending) or self.scheduler.items):
            while at < len(pending) and pending[at][0] <= self.now:
                arrived, one = pending[at]
                one.queued = arrived
                self.scheduler.put(one)
                at += 1
            batch = self.scheduler.take(self.now, is_idle=True)
            if batch:
                self.now += computed(batch, share=self.scheduler.shape.share) / self.rate
                for one in batch:
                    one.scored_at = self.now
                self.batches.append(batch)
            elif at < len(pending):
                self.now = max(self.now, pending[at][0])


jobs_strategy = st.lists(
    st.tuples(
        st.integers(1, 200),  # tail
        st.sampled_from([0, 0, 20, 60, 150, 300]),  # prompt
        st.integers(0, 2),  # which prompt
        st.integers(0, 3),  # stream
        st.floats(0, 0.5),  # arrival
    ),
    max_size=40,
)


def jobs_of(drawn: list[tuple[int, int, int, int, float]]) -> list[tuple[float, Job]]:
    return [
        (arrival, job(tail, seed=at, prompt=prompt(length, which) if length else None, stream=stream))
        for at, (tail, length, which, stream, arrival) in enumerate(drawn)
    ]


@given(jobs_strategy, st.integers(16, 700), st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_job_is_scored_once_within_the_budget(
    drawn: list[tuple[int, int, int, int, float]], budget: int, share: bool
) -> None:
    arrivals = jobs_of(drawn)
    simulator = Simulator(scheduler(budget, share=share))
    simulator.run(arrivals)
    batched = [one for batch in simulator.batches for one in batch]
    assert len(batched) == len(arrivals)
    assert set(map(id, batched)) == {id(one) for _, one in arrivals}
    for batch in simulator.batches:
        assert computed(batch, share=share) <= budget or len(batch) == 1
    assert (simulator.scheduler.items, simulator.scheduler.tokens) == (0, 0)


@given(jobs_strategy)
@settings(max_examples=60, deadline=None)
def test_fixed_shapes_hold_what_they_say(drawn: list[tuple[int, int, int, int, float]]) -> None:
    simulator = Simulator(scheduler(64, share=False, fixed=True))
    simulator.run(jobs_of(drawn))
    for batch in simulator.batches:
        [shape] = {FixedShape.of(len(one.ids), 64) for one in batch}
        ids = [one.ids for one in batch]
        assert pack(ids, [(len(one) - 1,) for one in ids], share=False, fixed=shape).tokens == shape.tokens


def test_a_group_is_kept_together_and_paid_once() -> None:
    waiting = scheduler()
    for at in range(4):
        for group in range(3):
            waiting.put(job(20, seed=10 * group + at, prompt=prompt(300, group), stream=at))
    batches = [waiting.take(1.0, is_idle=True) for _ in range(3)]
    for batch in batches:
        assert len(batch) == 4
        assert len({one.ids[:300].tobytes() for one in batch}) == 1
        assert computed(batch) == 300 + 4 * 20


def test_a_group_that_does_not_fit_beside_others_waits_for_its_own_batch() -> None:
    waiting = scheduler()
    waiting.put(job(300, seed=99))
    for at in range(4):
        waiting.put(job(20, seed=at, prompt=prompt(300), stream="other"))
    assert [len(waiting.take(1.0, is_idle=True)) for _ in range(2)] == [1, 4]


def test_only_siblings_join_a_batch_that_is_filled() -> None:
    waiting = scheduler(2048, fill=512)
    for at in range(8):
        waiting.put(job(150, seed=at, prompt=prompt(600), stream=at))
        waiting.put(job(200, seed=100 + at, stream=f"other {at}"))
    batches = []
    while batch := waiting.take(1.0, is_idle=True):
        batches.append(sorted({len(one.ids) for one in batch}))
        assert computed(batch) == 600 + 8 * 150 if len(batch) == 8 else computed(batch) <= 512
    assert sorted(map(tuple, batches)) == [(200,)] * 4 + [(750,)]


def test_the_callers_hint_brings_a_group_together_too() -> None:
    waiting = scheduler(budget=500)
    shared = prompt(40)
    jobs = [job(150, seed=at, prompt=shared, stream=at, group="g" if at in (0, 5) else "") for at in range(6)]
    for one in jobs:
        waiting.put(one)
    assert set(map(id, waiting.take(1.0, is_idle=True))) >= {id(jobs[0]), id(jobs[5])}


def test_a_batch_is_filled() -> None:
    waiting = scheduler(100)
    for at, length in enumerate((40, 40, 20, 1)):
        waiting.put(job(length, seed=at))
    assert [len(one.ids) for one in waiting.take(1.0, is_idle=True)] == [40, 40, 20]


def test_nobody_waits_when_the_device_is_idle_and_shortly_when_it_is_busy() -> None:
    waiting = scheduler(max_wait=0.004)
    waiting.put(job(10, queued=1.0))
    assert waiting.take(1.001, is_idle=False) == []
    assert waiting.wake_at() == pytest.approx(1.004)
    assert len(waiting.take(1.0045, is_idle=False)) == 1
    waiting.put(job(10, queued=2.0))
    assert len(waiting.take(2.0, is_idle=True)) == 1
    for at in range(6):
        waiting.put(job(100, seed=at, queued=3.0))
    assert len(waiting.take(3.0, is_idle=False)) == 5, "a full batch does not wait"
    assert waiting.take(3.0, is_idle=False) == []


def test_streams_are_served_in_turn_however_much_one_of_them_sends() -> None:
    arrivals = [(0.0, job(100, seed=at, stream="greedy")) for at in range(400)]
    modest = [(0.03 * at, job(100, seed=1000 + at, stream="modest")) for at in range(100)]
    simulator = Simulator(scheduler())
    simulator.run(arrivals + modest)
    waits = [one.scored_at - arrival for arrival, one in modest if one.scored_at is not None]
    batch_seconds = BUDGET / simulator.rate
    assert max(waits) <= 3 * batch_seconds
    assert simulator.now == pytest.approx(500 * 100 / simulator.rate, rel=0.05), "and no time is lost by that"


def test_streams_with_equal_demand_get_equal_shares() -> None:
    lengths = {"short": 30, "long": 240}
    arrivals = [(0.0, job(length, seed=at, stream=name)) for name, length in lengths.items() for at in range(24_000 // length)]
    simulator = Simulator(scheduler())
    simulator.run(arrivals, until=2.0)
    tokens = {name: sum(len(one.ids) for batch in simulator.batches for one in batch if one.stream == name) for name in lengths}
    assert tokens["short"] == pytest.approx(tokens["long"], rel=0.1)


def test_no_item_starves_however_many_siblings_and_new_streams_come() -> None:
    """Siblings are taken before strangers and new streams before old ones; age comes before both."""
    max_age = 0.5
    shared = prompt(200)
    arrivals = [(0.0, job(100, seed=5000 + at, stream="old")) for at in range(30)]
    arrivals += [(0.002 * at, job(15, seed=at, prompt=shared, stream=f"new {at}")) for at in range(2000)]
    simulator = Simulator(scheduler(max_age=max_age))
    simulator.run(arrivals)
    backlog = sum(len(one.ids) for arrival, one in arrivals if arrival == 0.0)
    waits = [one.scored_at - arrival for arrival, one in arrivals if one.scored_at is not None]
    assert len(waits) == len(arrivals)
    assert max(waits[:30]) <= max_age + 2 * (backlog + 2 * BUDGET) / simulator.rate


def test_overload_does_not_end_the_turns_of_streams() -> None:
    """Everything is older than `max_age` then, and one item of a batch is chosen by age only."""
    arrivals = [(0.0, job(100, seed=at, stream="greedy")) for at in range(2000)]
    modest = [(10.0 + 0.1 * at, job(100, seed=5000 + at, stream="modest")) for at in range(50)]
    simulator = Simulator(scheduler(max_age=1.0))
    simulator.run(arrivals + modest)
    waits = [one.scored_at - arrival for arrival, one in modest if one.scored_at is not None]
    assert max(waits) <= 4 * BUDGET / simulator.rate


def test_a_batch_is_formed_soon_however_much_waits() -> None:
    """Ten thousand streams behind one system message: the work of one batch stays bounded. Counted, not timed."""
    waiting = scheduler(16_384)
    system = prompt(40)
    for at in range(10_000):
        waiting.put(job(20, seed=at, prompt=system, stream=at))
    looks = 0
    original = waiting._shared

    def counted(seed: Job, at: int) -> int:
        nonlocal looks
        looks += 1
        return original(seed, at)

    waiting._shared = counted  # type: ignore[method-assign]
    assert len(waiting.take(1.0, is_idle=True)) > 300
    assert looks < 5000


def test_jobs_that_are_over_never_come_into_a_batch() -> None:
    waiting = scheduler()
    shared = prompt(100)
    jobs = [job(10, seed=at, prompt=shared, over_at=1.0 if at % 2 else 9.0) for at in range(6)]
    for one in jobs:
        waiting.put(one)
    assert {id(one) for one in waiting.take(2.0, is_idle=True)} == {id(one) for one in jobs[::2]}
    waiting.discard(jobs[1])
    waiting.discard(jobs[1])
    assert waiting.take(2.0, is_idle=True) == []
    assert waiting.items == 0


def test_what_comes_back_is_taken_first_and_in_its_order() -> None:
    waiting = scheduler(100, share=False)
    for at in range(3):
        waiting.put(job(60, seed=at))
    back = [job(60, seed=10 + at, stream="another") for at in range(2)]
    waiting.put_back(back)
    waiting.discard(back[0])
    waiting.put_back(back[:1])
    assert [waiting.take(9.0, is_idle=True) for _ in range(2)] == [[back[0]], [back[1]]], "the oldest, for all are too old"


def test_past_its_bounds_it_refuses_with_a_time_to_wait() -> None:
    waiting: Scheduler[Job] = Scheduler(shape=BatchShape(BUDGET, BUDGET), bounds=Bounds(items=2, tokens=50))
    waiting.put(job(60))  # longer than the bound, but alone
    with pytest.raises(OverloadedError) as caught:
        waiting.put(job(1), retry_delay=lambda: 3.5)
    assert caught.value.retry_delay == 3.5
    waiting.take_all()
    waiting.put(job(1))
    waiting.put(job(1))
    with pytest.raises(OverloadedError):
        waiting.put(job(1))
    waiting.put_back([job(1)])
    assert waiting.items == 3, "what was accepted before is never refused"


def test_ten_thousand_streams_that_come_and_go_leave_nothing_behind() -> None:
    waiting = scheduler()
    for at in range(10_000):
        one = job(10, seed=at % 50, stream=at)
        waiting.put(one)
        if at % 3:
            waiting.discard(one)
        elif at % 30 == 0:
            waiting.take(0.0, is_idle=True)
    waiting.take_all()
    assert (waiting.items, waiting.tokens) == (0, 0)
    assert not waiting._streams
    assert len(waiting._turns) < 200


def test_it_is_deterministic() -> None:
    def plan() -> list[list[int]]:
        generator = random.Random(3)
        arrivals = [
            (generator.random(), job(generator.randint(5, 200), seed=at, prompt=prompt(80, at % 5), stream=at % 7))
            for at in range(200)
        ]
        simulator = Simulator(scheduler())
        simulator.run(arrivals)
        order = {id(one): at for at, (_, one) in enumerate(arrivals)}
        return [[order[id(one)] for one in batch] for batch in simulator.batches]

    assert plan() == plan()
