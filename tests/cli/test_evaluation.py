"""What `rm-grpc evaluate` reads and counts, against numbers counted by hand or computed another way."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click import ClickException
from hypothesis import assume, given
from hypothesis import strategies as st

from rm_grpc.errors import ConversationTooLongError, InvalidRequestError
from rm_grpc_cli.evaluation.accuracy import Answer, Correlation, ScoredSet, Tally, best_of_n_credit
from rm_grpc_cli.evaluation.assembly import Assembly
from rm_grpc_cli.evaluation.picture import draw
from rm_grpc_cli.evaluation.report import Source, report
from rm_grpc_cli.evaluation.results import LISTED_ERRORS, Results, Spread
from rm_grpc_cli.evaluation.sets import CandidateSet, FailedSet, Origin, Rule, read_set
from rm_grpc_cli.plots import bin_edges, check_picture
from rm_grpc_client import Conversation, ModelInfo, Score

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
SCORES = st.integers(-3, 3).map(lambda number: number / 2)
"""Few values, so that equal scores come often."""


def read(line: Any) -> CandidateSet | FailedSet:
    return read_set(7, line if isinstance(line, bytes) else json.dumps(line).encode())


def good(line: Any) -> CandidateSet:
    result = read(line)
    assert isinstance(result, CandidateSet), result
    return result


def turns(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in conversation.messages]


def scored(chosen: list[float], rejected: list[float], rule: Rule = Rule.PAIR, subset: str = "", set_id: str = "") -> ScoredSet:
    answers = [tuple(Answer(score, 10) for score in scores) for scores in (chosen, rejected)]
    return ScoredSet(Origin(1, set_id, subset, rule), *answers)


# --- lines --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "q/a"),
        ({"prompt": [USER], "chosen": "a", "rejected": "b"}, "q/a"),
        ({"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, "q/a"),
        ({"prompt": "q", "chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, "q/a"),
        ({"prompt": "q", "chosen": [SYSTEM, USER, ANSWER], "rejected": "b"}, "s/q/a"),
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [ANSWER]}, "q/a"),
        ({"prompt": [USER, ANSWER, USER], "chosen": [ANSWER], "rejected": [ANSWER]}, "q/a/q/a"),
        ({"prompt": None, "chosen": [USER, ANSWER], "rejected": [USER, ANSWER], "source": "x", "score_chosen": 1}, "q/a"),
    ],
    ids=str,
)
def test_the_shapes_of_a_pair(line: dict[str, Any], expected: str) -> None:
    pair = good(line)
    assert pair.origin.rule is Rule.PAIR
    assert [where for where, _ in (*pair.chosen, *pair.rejected)] == ["chosen", "rejected"]
    assert "/".join(text for _, text in turns(pair.chosen[0][1])) == expected


def test_lists_of_answers_are_best_of_n() -> None:
    line = {"id": 3, "prompt": "q", "chosen": ["a"], "rejected": ["b", [USER, ANSWER]], "num_correct": 1, "subset": "Math"}
    one = good(line)
    assert one.origin == Origin(7, "3", "Math", Rule.BEST_OF_N)
    assert [where for where, _ in (*one.chosen, *one.rejected)] == ["chosen[0]", "rejected[0]", "rejected[1]"]
    assert turns(one.rejected[0][1]) == [("user", "q"), ("assistant", "b")]
    assert good({**line, "chosen": "a"}).origin.rule is Rule.BEST_OF_N
    ties = {**line, "subset": "Ties", "id": "tied:4", "chosen": ["a", "b"], "num_correct": 2}
    assert good(ties).origin.rule is Rule.TIES
    assert good({"prompt": "q", "chosen": "a", "rejected": "b", "subset": "Ties"}).origin.rule is Rule.PAIR


def test_tools_reach_the_conversation() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    pair = good({"prompt": "q", "chosen": "a", "rejected": "b", "tools": tools})
    assert json.loads(pair.chosen[0][1].tools) == json.loads(pair.rejected[0][1].tools) == tools


PAIR = {"prompt": "q", "chosen": "a", "rejected": "b", "subset": "x"}
TIES = {"prompt": "q", "chosen": ["a", "c"], "rejected": ["b"], "subset": "Ties", "id": "tied:1"}


@pytest.mark.parametrize(
    ("line", "field", "told"),
    [
        (b"nonsense", "", "is no JSON"),
        (b"[" * 100_000, "", "is no JSON"),
        ([1], "", "must be an object, not list"),
        ({"prompt": "q", "chosen": "a"}, "rejected", "is missing"),
        ({"chosen": "a", "rejected": "b"}, "prompt", "is missing"),
        ({**PAIR, "prompt": 5}, "prompt", "must be text"),
        ({**PAIR, "prompt": []}, "prompt", "must be text"),
        ({**PAIR, "prompt": [{"content": "q"}]}, "prompt[0].role", "needs a role"),
        ({**PAIR, "chosen": 5}, "chosen", "must be text"),
        ({**PAIR, "chosen": []}, "chosen", "must not be empty"),
        ({**PAIR, "rejected": [USER, {"role": "assistant", "content": 5}]}, "rejected[1].content", "must be a string"),
        ({**PAIR, "rejected": ["b", 5]}, "rejected[1]", "must be text"),
        ({**PAIR, "rejected": [{"role": "user", "content": "other"}, ANSWER]}, "rejected", "without the prompt"),
        ({**PAIR, "subset": {}}, "subset", "must be a string"),
        ({**PAIR, "id": True}, "id", "must be a string"),
        ({**PAIR, "tools": 5}, "tools", "must be a list"),
        ({**PAIR, "chosen": ["a"], "num_correct": 2}, "num_correct", "is 2, but chosen has 1"),
        ({**TIES, "id": "4"}, "id", "ref:NUMBER"),
        ({**TIES, "chosen": ["a"]}, "chosen", "two answers or more"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_line_names_its_field(line: Any, field: str, told: str) -> None:
    failed = read(line)
    assert isinstance(failed, FailedSet)
    assert isinstance(failed.error, InvalidRequestError)
    assert failed.origin.line == 7
    assert failed.error.field == field
    assert told in str(failed.error)


# --- sets that come together again --------------------------------------------------------------------------------------


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
def test_results_come_in_any_order(order: list[int], failing: set[int]) -> None:
    sets = [good({"prompt": "q", "chosen": "a", "rejected": ["b", "c"]}) for _ in range(2)]
    sets = [CandidateSet(Origin(line, rule=Rule.BEST_OF_N), one.chosen, one.rejected) for line, one in enumerate(sets)]
    assembly = Assembly()
    items = [item for one in sets for item in assembly.take_apart(one)]
    assert len({item.id for item in items}) == 6
    assert len({item.group for item in items}) == 2
    settled = []
    for at in order:
        outcome = ConversationTooLongError("long", field="x") if at in failing else Score(9.0, float(at), "digest", at)
        settled += [one for one in [assembly.settle(items[at].id, outcome)] if one is not None]
    assert len(settled) == 2
    for one in settled:
        first = 3 * one.origin.line
        bad = [at for at in range(first, first + 3) if at in failing]
        assert isinstance(one, FailedSet) is bool(bad)
        if isinstance(one, FailedSet):
            assert one.error.field == ("chosen", "rejected[0]", "rejected[1]")[bad[0] - first] + ".x"
        else:
            assert one.chosen == (Answer(float(first), first),)
            assert one.rejected_scores == [first + 1, first + 2]


# --- accuracies ---------------------------------------------------------------------------------------------------------


def test_pairs_by_hand() -> None:
    tally = Tally()
    for chosen, rejected in [(1.0, 0.0), (2.0, 2.0), (0.0, 3.0), (5.0, 1.0)]:
        tally.add(scored([chosen], [rejected]))
    assert tally.accuracy == 0.5, "equal scores are wrong"
    assert tally.equal == 1
    assert tally.mean_margin == 0.5
    assert (tally.mean_chosen, tally.mean_rejected, tally.mean_score) == (2.0, 1.5, 1.75)
    assert tally.length.value is None, "all answers have one length"
    assert Tally().accuracy is None, "nothing is no 0"


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ([3.0], [1.0, 2.0, 0.0], 1.0),
        ([3.0], [3.0, 2.0, 0.0], 1 / 2),
        ([3.0], [3.0, 3.0, 3.0], 1 / 4),
        ([3.0], [3.0, 3.0, 4.0], 0.0),
        ([3.0, 1.0], [2.0], 1.0),
        ([3.0, 3.0], [3.0], 2 / 3),
    ],
)
def test_best_of_n_by_hand(chosen: list[float], rejected: list[float], expected: float) -> None:
    assert best_of_n_credit(chosen, rejected) == pytest.approx(expected)


@given(SCORES, st.lists(SCORES, min_size=1, max_size=4))
def test_best_of_n_as_reward_bench_does(chosen: float, rejected: list[float]) -> None:
    scores = np.array([chosen, *rejected])
    official = 1 / np.sum(scores == np.max(scores)) if scores[0] == np.max(scores) else 0
    assert best_of_n_credit([chosen], rejected) == pytest.approx(official)


@given(st.lists(st.tuples(st.floats(-50, 50), st.integers(1, 4000)), min_size=3, max_size=60))
def test_correlation_as_numpy(pairs: list[tuple[float, int]]) -> None:
    x, y = map(np.array, zip(*pairs, strict=True))
    assume(x.std() > 1e-3)
    assume(y.std() > 1e-3)
    correlation = Correlation()
    for pair in pairs:
        correlation.add(*pair)
    assert correlation.value == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)


def test_correlation_within_sets_leaves_prompts_out() -> None:
    tally = Tally()
    for base, tokens in [(0.0, 10), (50.0, 20), (-7.0, 900)]:
        answers = ((Answer(base + 1, tokens + 5),), (Answer(base, tokens), Answer(base - 1, tokens - 5, truncated=base == 0)))
        tally.add(ScoredSet(Origin(1, rule=Rule.BEST_OF_N), *answers))
    assert tally.length_within.value == pytest.approx(1.0)
    assert tally.length.value is not None
    assert tally.length.value < 0
    assert tally.truncated == 1


# --- the whole ----------------------------------------------------------------------------------------------------------


def test_errors_are_in_no_accuracy() -> None:
    results = Results()
    results.add(scored([1.0], [0.0], subset="a"))
    results.add(FailedSet(Origin(2, "", "a", Rule.PAIR), ConversationTooLongError("long", field="chosen")))
    results.add(FailedSet(Origin(3, "", "b", Rule.PAIR), ConversationTooLongError("long", field="chosen")))
    told = report(results, Source("f", "0", 3), ModelInfo("m", model_digest="d"))
    by_subset = {row["subset"]: row for row in told["subsets"]}
    assert (by_subset["a"]["accuracy"], by_subset["a"]["sets"], by_subset["a"]["errors"]) == (1.0, 1, 1)
    assert (by_subset["b"]["accuracy"], by_subset["b"]["sets"], by_subset["b"]["errors"]) == (None, 0, 1)
    assert told["errors"]["lines"] == 2
    assert told["errors"]["listed"][0] == {
        "line": 2,
        "id": "",
        "subset": "a",
        "code": "INVALID_ARGUMENT",
        "reason": ConversationTooLongError.reason,
        "field": "chosen",
        "message": "long",
    }
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_listed_errors_are_bounded() -> None:
    results = Results()
    for line in range(LISTED_ERRORS + 5):
        results.add(FailedSet(Origin(line), InvalidRequestError("x")))
    assert results.errors == LISTED_ERRORS + 5 == sum(results.reasons.values())
    assert len(results.listed) == LISTED_ERRORS


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=50))
def test_bins_hold_every_value_and_part_at_zero(values: list[float]) -> None:
    edges = bin_edges(values)
    assert all(low < high for low, high in pairwise(edges))
    if values:
        assert edges[0] <= min(values)
        assert max(values) <= edges[-1]
        if min(values) < -0.01 and max(values) > 0.01:
            assert 0.0 in edges


def test_pictures(tmp_path: Path) -> None:
    spread = Spread()
    for name in ("empty.png", "some.png", "some.svg"):
        draw(spread, r"a_b $\nothing$", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
        spread.add(scored([1.0], [0.5]))
    assert (tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_drawn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClickException, match="must end in"):
        check_picture(Path("a.gif"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ClickException, match=r"rm-grpc\[plots\]"):
        check_picture(Path("a.png"))
