"""What `rm-grpc verify` computes from numbers, against the same computed naively; and that each fault is one."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_grpc.types import Item
from rm_grpc_cli.verification.cards import CardRow, card_rows, tolerance
from rm_grpc_cli.verification.comparison import agreement, difference, farthest, spread
from rm_grpc_cli.verification.outcomes import Outcome, Refusal, from_json, numbers, to_json
from rm_grpc_cli.verification.parity import Parity, sides
from rm_grpc_cli.verification.picture import draw
from rm_grpc_cli.verification.probes import Probe, published
from rm_grpc_cli.verification.report import report
from rm_grpc_cli.verification.served import Company, Round
from rm_grpc_cli.verification.tables import tables, told_notes
from rm_grpc_cli.verification.verification import Verification, with_rounding
from rm_grpc_server.published import Expected

FEW = st.integers(-3, 3).map(lambda number: number / 2)
"""Few values, so that equal ones come often."""
LISTS = st.lists(st.tuples(FEW, FEW), min_size=2, max_size=12)


# --- numbers ----------------------------------------------------------------------------------------------------------------


def pearson(one: list[float], two: list[float]) -> float | None:
    a, b = statistics.fmean(one), statistics.fmean(two)
    size = math.sqrt(sum((x - a) ** 2 for x in one) * sum((y - b) ** 2 for y in two))
    return sum((x - a) * (y - b) for x, y in zip(one, two, strict=True)) / size if size else None


def mean_ranks(values: list[float]) -> list[float]:
    return [sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values]


@given(LISTS)
def test_agreement_is_what_counting_pairs_gives(both: list[tuple[float, float]]) -> None:
    one, two = [list(side) for side in zip(*both, strict=True)]
    found = agreement(one, two)
    pairs = list(combinations(both, 2))
    signs = [((b[0] > a[0]) - (b[0] < a[0]), (b[1] > a[1]) - (b[1] < a[1])) for a, b in pairs]
    assert found.pairs == sum(x != 0 for x, _ in signs)
    assert found.swapped == sum(x * y < 0 for x, y in signs)
    assert found.merged == sum(x != 0 and y == 0 for x, y in signs)
    assert found.split == sum(x == 0 and y != 0 for x, y in signs)
    lost = [abs(b[0] - a[0]) for (a, b), (x, y) in zip(pairs, signs, strict=True) if x and x * y <= 0]
    assert found.widest_swap == max(lost, default=0.0)
    told = math.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))
    assert found.kendall == (pytest.approx(sum(x * y for x, y in signs) / told) if told else None)
    expected = pearson(mean_ranks(one), mean_ranks(two))
    assert found.spearman == (pytest.approx(expected, abs=1e-9) if expected is not None else None)


def test_agreement_of_nothing() -> None:
    assert agreement([], []).spearman is None
    assert agreement([1.0], [2.0]).kendall is None


@given(LISTS)
def test_difference_has_the_measure_of_the_check_at_load(both: list[tuple[float, float]]) -> None:
    one, two = [list(side) for side in zip(*both, strict=True)]
    found = difference(one, two)
    apart = [abs(x - y) for x, y in both]
    assert (found.count, found.largest) == (len(both), max(apart))
    assert found.mean == pytest.approx(statistics.fmean(apart))
    measures = [abs(x - y) / max(1.0, statistics.pstdev(one), abs(x)) for x, y in both]
    assert found.measure == pytest.approx(max(measures))
    assert measures[found.worst] == pytest.approx(max(measures))


def test_the_measure_is_absolute_below_one_and_relative_above() -> None:
    assert difference([0.001, 0.002], [0.001, 0.012]).measure == pytest.approx(0.01)
    assert difference([100.0, 100.0], [100.0, 101.0]).measure == pytest.approx(0.01)
    assert difference([0.0, 20.0], [0.1, 20.0]).measure == pytest.approx(0.01)


def test_of_several_numbers_the_farthest_counts() -> None:
    assert farthest(1.0, [1.1, 0.5, 1.2]) == 0.5
    assert spread([1.1, 0.5, 1.2]) == pytest.approx(0.7)


# --- both sides -------------------------------------------------------------------------------------------------------------


def probe(name: str) -> Probe:
    return Probe(name, "", Item("", "text"))


def scored(value: float, *steps: float, **attributes: float) -> Outcome:
    return numbers(value, list(steps), attributes)


def parity(naive: list[Outcome], *served: tuple[Company, list[Outcome]], dtype: str = "float32", **fields: object) -> Parity:
    probes = [probe(f"p{at}") for at in range(len(naive))]
    rounds = [Round(company, dict(enumerate(outcomes))) for company, outcomes in served]
    found = sides(probes, rounds, dict(enumerate(naive)))
    made = Parity(dtype, "cpu", "digest", found.compared, found.refused, found.disagreements)
    return replace(made, **fields)  # type: ignore[arg-type]  # fields of any type


NAIVE: list[Outcome] = [scored(1.0, 0.5, 0.25, help=2.0), scored(-3.0, 0.5, help=1.0)]
SAME = [(company, NAIVE) for company in (Company.ALONE, Company.TOGETHER)]


def test_the_same_numbers_pass() -> None:
    found = parity(NAIVE, *SAME)
    assert found.faults == []
    assert {name: one.count for name, one in found.differences.items()} == {"score": 2, "step scores": 3, "attribute help": 2}
    assert found.spread == 0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (scored(1.0001, 0.5, 0.25, help=2.0), "score differs by 5e-05"),
        (scored(1.0, 0.5, 0.2501, help=2.0), "step scores differs by 0.0001"),
        (scored(1.0, 0.5, 0.25, help=2.01), "attribute help differs by 0.005"),
        (scored(1.0, 0.5, help=2.0), "1 conversations do not have the same numbers"),
        (scored(1.0, 0.5, 0.25), "1 conversations do not have the same numbers"),
        (Refusal("TOO_LONG", "too long"), "1 conversations do not have the same numbers"),
    ],
    ids=["score", "step", "attribute", "fewer steps", "no attribute", "refused"],
)
@pytest.mark.parametrize("company", list(Company))
def test_any_difference_in_any_round_is_a_fault(changed: Outcome, told: str, company: Company) -> None:
    rounds = [*SAME, (company, [changed, NAIVE[1]])]
    (fault,) = parity(NAIVE, *rounds).faults
    assert told in fault


def test_sixteen_bits_have_their_own_tolerance() -> None:
    rounds = [(Company.ALONE, [scored(1.1), scored(-3.0)])]
    naive = [scored(1.0), scored(-3.0)]
    assert parity(naive, *rounds, dtype="bfloat16").faults == []
    assert parity(naive, *rounds, dtype="float16").faults
    assert parity(naive, *rounds).faults


def test_float32_may_differ_by_what_the_naive_path_itself_rounds() -> None:
    served = [scored(1.0 + 6e-5, 0.5, 0.25, help=2.0), NAIVE[1]]
    found = parity(NAIVE, *SAME, (Company.SHUFFLED, served))
    assert found.may_be_rounding
    explained = found.beside_double({"p0": scored(1.0 - 5e-5, 0.5, 0.25, help=2.0), "p1": NAIVE[1]})
    assert explained.allowed("score") == pytest.approx(3 * 5e-5 / statistics.pstdev([1.0, -3.0]), rel=1e-3)
    assert explained.faults == []
    steady = found.beside_double({"p0": scored(1.0 - 1e-6, 0.5, 0.25, help=2.0), "p1": NAIVE[1]})
    assert steady.allowed("score") == 1e-5
    assert steady.faults == found.faults
    of_steps = found.beside_double({"p0": scored(1.0, 0.501, 0.25, help=2.0), "p1": NAIVE[1]})
    assert of_steps.faults == found.faults, "each quantity has its own rounding"
    result = Verification({"name": "m"}, "", (explained,), ())
    assert "double precision" in "".join(told_notes(result))
    assert report(result)["dtypes"]["float32"]["allowed"]["score"] == explained.allowed("score")


def test_double_precision_is_asked_about_small_differences_alone() -> None:
    def off(by: float, dtype: str = "float32") -> bool:
        moved = [scored(1.0 + by, 0.5, 0.25, help=2.0), NAIVE[1]]
        return parity(NAIVE, *SAME, (Company.SHUFFLED, moved), dtype=dtype).may_be_rounding

    assert [off(by) for by in (0.0, 1e-4, 0.01, math.nan)] == [False, True, False, False]
    assert not off(0.5, "bfloat16")
    gone = (Company.SHUFFLED, [Refusal("TOO_LONG", "too long"), NAIVE[1]])
    assert not parity(NAIVE, *SAME, gone).may_be_rounding


def test_a_deterministic_model_must_not_move_at_all() -> None:
    moved = [scored(math.nextafter(1.0, 2.0), 0.5, 0.25, help=2.0), NAIVE[1]]
    rounds = [*SAME, (Company.SHUFFLED, moved)]
    assert parity(NAIVE, *rounds).faults == []
    (fault,) = parity(NAIVE, *rounds, deterministic=True).faults
    assert "deterministic" in fault


def test_a_flag_that_rounding_turns_over_is_told_and_not_judged() -> None:
    naive, served = [scored(0.5, both=1.0), scored(0.5, both=0.0)], [scored(0.5, both=0.0), scored(0.5, both=0.0)]
    half = parity(naive, (Company.ALONE, served), dtype="bfloat16")
    assert half.differences["attribute both"].measure == 1.0
    assert half.faults == []
    assert parity(naive, (Company.ALONE, served)).faults
    graded = [scored(0.5, both=0.25), scored(0.5, both=0.0)]
    assert parity(naive, (Company.ALONE, graded), dtype="bfloat16").faults


def test_what_both_sides_refuse_is_told_and_no_fault() -> None:
    refusal = Refusal("TOO_LONG", "600 tokens")
    found = parity([NAIVE[0], refusal], (Company.ALONE, [NAIVE[0], refusal]), (Company.TOGETHER, [NAIVE[0], refusal]))
    assert found.faults == []
    assert [(one.name, one.refusal) for one in found.refused] == [("p1", refusal)]
    other = Refusal("NO_MESSAGES", "none")
    assert parity([refusal], (Company.ALONE, [other])).faults


def test_company_is_measured_from_the_score_alone() -> None:
    rounds = [
        (Company.ALONE, [scored(1.0), scored(2.0)]),
        (Company.SHUFFLED, [scored(1.5), scored(2.0)]),
        (Company.SHUFFLED, [scored(0.75), scored(2.25)]),
    ]
    found = parity([scored(1.0), scored(2.0)], *rounds)
    (shuffled,) = found.steadiness
    assert (shuffled.company, shuffled.rounds, shuffled.count) == (Company.SHUFFLED, 2, 2)
    assert (shuffled.largest, shuffled.mean, shuffled.worst) == (0.5, 0.375, "p0")
    assert found.spread == 0.75


def test_outcomes_travel_as_json() -> None:
    for outcome in (*NAIVE, Refusal("TOO_LONG", "600 tokens")):
        assert from_json(json.loads(json.dumps(to_json(outcome)))) == outcome


# --- known scores -----------------------------------------------------------------------------------------------------------


def known(found: float, score: float, *, kind: str = "token_logit", dtypes: tuple[str, ...] = ("bfloat16",)) -> list[CardRow]:
    expected = Expected("sum-right", score, "the card")
    probes = published([expected])
    rounds = [Round(Company.ALONE, {0: scored(found)}), Round(Company.TOGETHER, {0: scored(found)})]
    sorted_out = sides(probes, rounds, {0: scored(found)})
    return card_rows([expected], kind, [Parity(dtype, "cpu", "", sorted_out.compared, (), ()) for dtype in dtypes])


def test_known_scores_have_a_tolerance_for_other_hardware() -> None:
    assert [row.is_within for row in known(23.125, 23.0)] == [True]  # the two values that one card prints for two engines
    assert [row.is_within for row in known(-4.28125, -3.28125)] == [False]  # the wrong answer's score is not the right one's
    assert tolerance(-15.25, "sequence_classification") == pytest.approx(0.555)
    assert [row.is_within for row in known(0.9955, 0.0240, kind="process_reward")] == [False]


def test_a_known_score_that_is_not_found_fails() -> None:
    rows = known(1.0, 5.0, dtypes=("float32", "bfloat16"))
    assert [row.counts for row in rows] == [False, True]
    result = Verification({"name": "m"}, "", (parity(NAIVE, *SAME),), tuple(rows))
    assert result.faults == ["bfloat16: the known score of sum-right differs by -4, more than 0.35"]
    assert result.verdict.startswith("FAILED")
    unscored = card_rows([Expected("sum-right", 5.0, "")], "token_logit", [parity(NAIVE, *SAME)])
    (row,) = unscored
    assert (row.found, row.counts, row.is_within) == (None, True, False)


# --- the whole result -------------------------------------------------------------------------------------------------------


def test_what_a_dtype_costs_is_told_beside_what_the_service_costs() -> None:
    exact = parity(NAIVE, *SAME)
    rough = [scored(1.25, 0.5, 0.25, help=2.0), scored(-3.0, 0.5, help=1.0)]
    served = [scored(1.125, 0.5, 0.25, help=2.0), scored(-3.0, 0.5, help=1.0)]
    half = parity(rough, (Company.ALONE, served), (Company.TOGETHER, served), dtype="bfloat16")
    first, second = with_rounding([exact, half])
    assert first.rounding is None
    assert second.rounding is not None
    assert second.served_rounding is not None
    assert (second.rounding.largest, second.served_rounding.largest) == (0.25, 0.125)
    assert with_rounding([half])[0].rounding is None


def test_a_verdict_without_float32_says_what_it_cannot_tell() -> None:
    both = Verification({"name": "m"}, "", (parity(NAIVE, *SAME), parity(NAIVE, *SAME, dtype="bfloat16")), ())
    assert both.passed
    assert "float32 was not run" not in both.verdict
    half = Verification({"name": "m"}, "", (parity(NAIVE, *SAME, dtype="bfloat16"),), ())
    assert "float32 was not run" in half.verdict


def test_a_failure_is_told_everywhere(tmp_path: Path) -> None:
    """Tables, report and picture take a result of which nothing can be compared as well as any other."""
    off = [scored(9.0, 0.5, 0.25, help=2.0), NAIVE[1]]
    for rounds in ([*SAME, (Company.SIBLINGS, off)], [(Company.ALONE, [Refusal("GONE", "gone")] * 2)]):
        found = Verification({"name": "m"}, "", (parity(NAIVE, *rounds),), ())
        assert not found.passed
        told = report(found)
        assert (told["passed"], told["faults"]) == (False, found.faults)
        json.dumps(told, allow_nan=False)
        assert len(list(tables(found))) == 3
        assert told_notes(found)
        pytest.importorskip("matplotlib")
        draw(found, tmp_path / "out.svg")
