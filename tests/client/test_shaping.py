"""From scores to rewards, and what is logged of them; against numpy's formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_grpc.errors import NoInputError
from rm_grpc.types import Score
from rm_grpc_client.metrics import Metrics
from rm_grpc_client.shaping import Shaper, Shaping

NUMBERS = st.floats(-100, 100, width=32)


def shaped(shaping: Shaping, scores: list[float | None], prompts: list[object] | None = None) -> list[float | None]:
    return Shaper(shaping).shaped(scores, prompts or [None] * len(scores))  # type: ignore[arg-type]  # all are hashable


def test_nothing_is_done_unless_asked() -> None:
    assert shaped(Shaping(), [1.5, None, -2.0]) == [1.5, None, -2.0]


@given(st.lists(st.tuples(st.none() | NUMBERS, st.sampled_from(["a", "b", None])), min_size=1, max_size=30))
def test_centring_and_scaling_are_by_prompt(given: list[tuple[float | None, str | None]]) -> None:
    scores, prompts = [score for score, _ in given], [prompt for _, prompt in given]
    centred = shaped(Shaping(centring="prompt"), scores, prompts)
    both = shaped(Shaping(centring="prompt", scaling="prompt"), scores, prompts)
    for at, (score, prompt) in enumerate(given):
        if score is None:
            assert centred[at] is None
            assert both[at] is None
            continue
        group = [one for one, name in given if name == prompt and one is not None] if prompt is not None else [score]
        assert centred[at] == pytest.approx(score - np.mean(group), abs=1e-9)
        std = np.std(group, ddof=1) if len(group) > 1 else 1.0
        assert both[at] == pytest.approx((score - np.mean(group)) / (std if std > 1e-6 else 1.0), abs=1e-6)


@given(st.lists(NUMBERS, min_size=1, max_size=40))
def test_running_normalization_is_of_all_scores_so_far(scores: list[float]) -> None:
    shaper = Shaper(Shaping(normalization="running"))
    for at, score in enumerate(scores):
        [value] = shaper.shaped([score], [None])
        so_far = np.array(scores[: at + 1])
        std = so_far.std()
        assert value == pytest.approx((score - so_far.mean()) / (std if std > 1e-6 else 1.0), abs=1e-5)


def test_the_order_is_normalise_centre_clip() -> None:
    shaping = Shaping(normalization=(1.0, 2.0), centring="prompt", clip=(-0.5, 0.5))
    assert shaped(shaping, [1.0, 5.0, 3.0], ["a", "a", "b"]) == [-0.5, 0.5, 0.0]
    assert shaped(Shaping(normalization=(1.0, 2.0)), [1.0, 5.0]) == [0.0, 2.0]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Shaping(normalization=(0.0, 0.0))
    assert Shaping(normalization=[1.0, 2.0]) == Shaping(normalization=(1.0, 2.0))  # type: ignore[arg-type]  # as YAML has it
    for wrong in (
        {"normalization": "runing"},
        {"centring": "Prompt"},
        {"scaling": "group"},
        {"normalization": (1.0, float("nan"))},
    ):
        with pytest.raises(ValueError, match="must be"):
            Shaping(**wrong)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="clip"):
        Shaping(clip=(1.0, 1.0))


def score(value: float, *, truncated: bool = False, **attributes: float) -> Score:
    return Score(value, value, "digest", 10, truncated=truncated, attributes=attributes)


def test_metrics_are_a_plain_dict_of_figures() -> None:
    metrics = Metrics()
    assert metrics.figures() == {"count": 0.0}
    values, lengths, seconds = [1.0, 3.0, 2.0], [10, 30, 25], [0.1, 0.2, 0.9]
    for value, length, duration in zip(values, lengths, seconds, strict=True):
        metrics.scored(score(value, truncated=value == 3.0, helpful=value / 2), length, duration)
    metrics.rewarded([0.5, None, -0.5])
    metrics.failed(NoInputError("nothing"))
    figures = metrics.figures()
    assert all(type(figure) is float for figure in figures.values())
    assert figures["count"] == 4
    assert figures["error_rate"] == 0.25
    assert figures["errors/NO_INPUT"] == 1
    assert figures["score/mean"] == 2.0
    assert figures["score/std"] == pytest.approx(np.std(values))
    assert figures["reward/mean"] == 0.0
    assert figures["component/helpful/mean"] == 1.0
    assert figures["truncation_rate"] == pytest.approx(1 / 3)
    assert (figures["latency/p50"], figures["latency/p95"]) == (0.2, 0.9)
    assert figures["score/length_correlation"] == pytest.approx(np.corrcoef(values, lengths)[0, 1])
    metrics.reset()
    assert metrics.figures() == {"count": 0.0}


def test_a_figure_of_nothing_is_left_out() -> None:
    metrics = Metrics()
    metrics.scored(score(1.0), 5, 0.1)
    assert "score/length_correlation" not in metrics.figures()
    assert math.isfinite(metrics.figures()["score/std"])
