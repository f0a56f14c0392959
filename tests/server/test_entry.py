"""An entry: one outcome, told at once to everyone who waits for it."""

from __future__ import annotations

import logging

import pytest
from services.pools import entry

from rm_grpc.errors import ItemCancelledError
from rm_grpc.types import Score
from rm_grpc_server.engine.entry import Entry, Outcome

SCORE, LATER = Score(1.0, 1.0, "digest", 1), ItemCancelledError("too late")


def test_everyone_is_told_the_first_outcome_once_and_in_order() -> None:
    waited, told = entry(1), []
    for name in "ab":
        waited.watch(lambda one, outcome, name=name: told.append((name, one, outcome)))  # type: ignore[misc]
    assert not waited.is_over(0.0)
    waited.resolve(SCORE)
    waited.resolve(LATER)
    assert waited.is_over(0.0)
    waited.watch(lambda one, outcome: told.append(("late", one, outcome)))
    assert told == [("a", waited, SCORE), ("b", waited, SCORE), ("late", waited, SCORE)]


def test_who_resolves_again_while_he_is_told_changes_nothing() -> None:
    waited, told = entry(1), []

    def again(one: Entry, outcome: Outcome) -> None:
        one.resolve(LATER)
        told.append(outcome)

    waited.watch(again)
    waited.watch(again)
    waited.resolve(SCORE)
    assert told == [SCORE, SCORE]


def test_a_watcher_that_fails_keeps_nobody_else_from_the_outcome(caplog: pytest.LogCaptureFixture) -> None:
    waited, told = entry(1), []

    def fail(one: Entry, outcome: Outcome) -> None:
        raise ValueError("a fault")

    waited.watch(fail)
    waited.watch(lambda _, outcome: told.append(outcome))
    with caplog.at_level(logging.ERROR):
        waited.resolve(SCORE)
    assert told == [SCORE]
    assert "could not take its outcome" in caplog.text
