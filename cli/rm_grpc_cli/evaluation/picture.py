"""Two histograms in one picture: raw scores of chosen and rejected answers, and margins."""

from __future__ import annotations

from pathlib import Path

from rm_grpc_cli.evaluation.results import Spread
from rm_grpc_cli.plots import bin_edges, check_picture, new_figure

_CHOSEN, _REJECTED, _MARGIN = "#1f77b4", "#d98200", "#2a9d6f"


def draw(spread: Spread, title: str, file: Path) -> None:
    """Writes the picture of what was scored.

    Raises:
        ClickException: as `check_picture`.
    """
    check_picture(file)
    figure = new_figure((10.0, 4.0))
    scores, margins = figure.subplots(1, 2)
    figure.suptitle(title, fontsize=10, parse_math=False)
    edges = bin_edges((*spread.chosen, *spread.rejected))
    for values, name, colour in ((spread.chosen, "chosen", _CHOSEN), (spread.rejected, "rejected", _REJECTED)):
        scores.hist(values, bins=edges, color=colour, alpha=0.55, label=f"{name} ({len(values)})")
    scores.set(xlabel="raw score", ylabel="answers")
    scores.legend(frameon=False)
    margins.hist(spread.margins, bins=bin_edges(spread.margins), color=_MARGIN, label=f"sets ({len(spread.margins)})")
    margins.axvline(0, color="black", linewidth=1, linestyle="--", label="equal scores")
    margins.set(xlabel="margin: chosen minus best rejected, raw score", ylabel="sets")
    margins.legend(frameon=False)
    figure.savefig(file, dpi=150)
