"""The result as a picture: for each dtype, served scores over naive ones, and a histogram of their differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rm_grpc_cli.plots import bin_edges, check_picture, new_figure
from rm_grpc_cli.verification.outcomes import SCORE
from rm_grpc_cli.verification.parity import Parity
from rm_grpc_cli.verification.verification import Verification

_POINTS, _DIFFERENCES = "#1f77b4", "#2a9d6f"


def draw(found: Verification, file: Path) -> None:
    """Writes the picture.

    Raises:
        ClickException: as `check_picture`.
    """
    check_picture(file)
    rows = len(found.parities)
    figure = new_figure((10.0, 3.6 * rows))
    figure.suptitle(f"{found.model['name']}: the service and the naive path", fontsize=10, parse_math=False)
    for parity, (scatter, histogram) in zip(found.parities, figure.subplots(rows, 2, squeeze=False), strict=True):
        _draw_scores(parity, scatter)
        _draw_differences(parity, histogram)
    figure.savefig(file, dpi=100)


def _draw_scores(parity: Parity, axes: Any) -> None:
    points = [(one.naive[SCORE][0], score) for one in parity.compared for score in one.scores()]
    ends = sorted(naive for naive, _ in points)[:: max(1, len(points) - 1)]
    axes.plot(ends, ends, color="black", linewidth=1, linestyle="--", label="equal")
    label = f"{len(parity.compared)} conversations, every round"
    axes.scatter([naive for naive, _ in points], [score for _, score in points], s=12, alpha=0.5, color=_POINTS, label=label)
    axes.set(xlabel=f"naive raw score, {parity.dtype}", ylabel="served raw score")
    axes.legend(frameon=False)


def _draw_differences(parity: Parity, axes: Any) -> None:
    apart = [score - one.naive[SCORE][0] for one in parity.compared for score in one.scores()]
    axes.hist(apart, bins=bin_edges(apart), color=_DIFFERENCES, label=f"largest {max(map(abs, apart), default=0.0):.1e}")
    axes.axvline(0, color="black", linewidth=1, linestyle="--")
    axes.set(xlabel=f"served minus naive raw score, {parity.dtype}", ylabel="scores")
    axes.legend(frameon=False)
