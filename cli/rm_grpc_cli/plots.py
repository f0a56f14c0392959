"""Pictures with Matplotlib, which is there only where somebody wants pictures."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from math import ceil, floor
from pathlib import Path
from typing import Any

from click import ClickException

FORMATS = (".png", ".svg", ".pdf")
"""Endings of files that can be drawn."""
_MOST_BINS = 60


def check_picture(file: Path) -> None:
    """Looks whether the picture can be drawn, before hours of scoring rather than after.

    Raises:
        ClickException: Matplotlib is not installed, or the file's ending is not known.
    """
    if file.suffix.lower() not in FORMATS:
        raise ClickException(f"{file}: a picture's name must end in {', '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise ClickException('the picture is drawn with Matplotlib: pip install "rm-grpc[plots]"')


def new_figure(size: tuple[float, float]) -> Any:
    """An empty figure of so many inches."""
    # By name, so that types are checked alike with Matplotlib and without it.
    return import_module("matplotlib.figure").Figure(figsize=size, layout="constrained")


def bin_edges(values: Sequence[float]) -> list[float]:
    """Edges of bins of one width that hold all values; 0 is an edge where it lies between, for it parts right from wrong.

    There are about as many bins as the root of the count, from 5 to 60.
    """
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    if high - low <= 1e-9 * max(1.0, abs(low), abs(high)):
        return [low - 0.5, high + 0.5]
    width = (high - low) / min(_MOST_BINS, max(5, round(len(values) ** 0.5)))
    first, last = floor(low / width), ceil(high / width)
    return [at * width for at in range(first - (first * width > low), last + 1 + (last * width < high))]
