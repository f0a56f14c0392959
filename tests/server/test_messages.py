"""What goes between the server and a replica arrives as it was sent."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_grpc.errors import ScorerFailedError
from rm_grpc.types import StepScore, Verdict
from rm_grpc_server.engine.messages import LENGTH, Done, Failed, Stages, Work, frame, taken
from rm_grpc_server.scoring.protocols import BatchOutcome, Outcome
from rm_grpc_server.text.encoding import Tokens

NUMBERS = st.floats(allow_nan=False)
STEPS = st.lists(st.builds(StepScore, NUMBERS, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=2).map(tuple)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Verdict, NUMBERS),
    st.builds(Verdict, NUMBERS, st.dictionaries(st.text(max_size=3), NUMBERS, max_size=2), STEPS),
)


def sent(message: object) -> object:
    """The message at the other end."""
    data = frame(message)
    (length,) = LENGTH.unpack(data[: LENGTH.size])
    assert length == len(data) - LENGTH.size
    return pickle.loads(data[LENGTH.size :])


@given(st.lists(st.tuples(OUTCOMES, st.integers(0, 99)), max_size=8), st.tuples(*[NUMBERS] * 4))
def test_outcomes_arrive_in_their_order(given_outcomes: list[tuple[Outcome, int]], times: tuple[float, ...]) -> None:
    outcomes, shared = [outcome for outcome, _ in given_outcomes], [tokens for _, tokens in given_outcomes]
    done = Done(7, BatchOutcome(outcomes, shared, 12), Stages(*times))
    assert sent(done) == done


@pytest.mark.parametrize("raw_score", [None, 1, np.float32(0.5), "0.5"])
def test_what_a_scorer_should_not_have_given_arrives_as_it_is(raw_score: object) -> None:
    outcomes: list[Outcome] = [Verdict(1.0), Verdict(raw_score), Verdict(2.0)]  # type: ignore[arg-type]
    arrived = sent(Done(1, BatchOutcome(outcomes, [0] * 3), Stages()))
    assert isinstance(arrived, Done)
    assert arrived.result.outcomes == outcomes
    assert [type(one.raw_score) for one in arrived.result.outcomes if isinstance(one, Verdict)][1] is type(raw_score)


def test_an_error_among_scores_stays_at_its_place() -> None:
    outcomes: list[Outcome] = [Verdict(1.0), ScorerFailedError("no", field="x"), Verdict(-0.0), Verdict(2.0, {"a": 1.0})]
    arrived = sent(Done(1, BatchOutcome(outcomes, [0] * 4), Stages()))
    assert isinstance(arrived, Done)
    first, error, zero, last = arrived.result.outcomes
    assert (first, last) == (outcomes[0], outcomes[3])
    assert isinstance(zero, Verdict)
    assert np.signbit(zero.raw_score)
    assert isinstance(error, ScorerFailedError)
    assert (error.message, error.field) == ("no", "x")


@given(st.lists(st.tuples(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9), st.integers(1, 3)), max_size=5))
def test_tokens_arrive_with_what_is_read_of_them(conversations: list[tuple[list[int], int]]) -> None:
    tokens = [Tokens(np.array(ids, dtype=np.int32), tuple(range(reads))) for ids, reads in conversations]
    arrived = sent(Work(3, tokens))
    assert isinstance(arrived, Work)
    assert arrived.number == 3
    found = [(one.ids.tolist(), one.reads) for one in arrived.conversations if isinstance(one, Tokens)]
    assert found == [(one.ids.tolist(), one.reads) for one in tokens]


@given(st.lists(st.text(max_size=20), max_size=5), st.lists(st.integers(1, 40), min_size=1))
def test_messages_are_whole_wherever_what_is_read_was_cut(told: list[str], cuts: list[int]) -> None:
    messages = [Failed(at, text) for at, text in enumerate(told)]
    data, unread, arrived, sizes = b"".join(map(frame, messages)), bytearray(), [], itertools.cycle(cuts)
    while data:
        size = next(sizes)
        unread += data[:size]
        data = data[size:]
        arrived += taken(unread)
    assert arrived == messages
    assert not unread
