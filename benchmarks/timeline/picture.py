"""Draws batches as an SVG that is readable on light and dark pages: no background, and ink between black and white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from itertools import accumulate
from statistics import median
from typing import Any

from click import ClickException

from benchmarks.timeline.capture import SINGLE, TracedBatch, TracedItem

_INK = "#6e7781"
_COLOURS = ("#1f77b4", "#d98200", "#2a9d6f", "#c0504d", "#8a6d3b")
_SINGLE_COLOUR = "#9467bd"
_WIDTH, _FAINT = 11.0, 0.32
_FORWARD, _LEAST_VISIBLE = 0.66, 0.0022
"""Height of a forward's bar, and width of the narrowest bar as a share of the picture's."""


class NoMatplotlibError(ClickException):
    """Matplotlib is not installed."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A group's share of a batch, in tokens."""

    group: str
    computed: float
    saved: float


def require_matplotlib() -> None:
    """Raises where nothing can be drawn.

    Raises:
        NoMatplotlibError: it is not installed.
    """
    if find_spec("matplotlib") is None:
        raise NoMatplotlibError("the picture is drawn with Matplotlib: pip install -c constraints.txt matplotlib")


def draw(batches: Sequence[TracedBatch], title: str) -> str:
    """The picture.

    Raises:
        NoMatplotlibError: it cannot be drawn here.
    """
    require_matplotlib()
    # By name, so that types are checked alike with Matplotlib and without it.
    matplotlib: Any = import_module("matplotlib")
    make_figure: Any = import_module("matplotlib.figure").Figure
    settings = {
        "svg.hashsalt": "timeline",
        "svg.fonttype": "path",
        "font.size": 8.5,
        "text.color": _INK,
        "axes.edgecolor": _INK,
    }
    settings |= {"axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "hatch.linewidth": 0.6}
    with matplotlib.rc_context(settings):
        replicas = 1 + max(batch.replica for batch in batches)
        heights = [0.42, 1.0, *[1.25] * replicas]
        figure = make_figure(figsize=(_WIDTH, 1.0 + 0.95 * sum(heights)), layout="constrained")
        rows = figure.subplots(len(heights), sharex=True, height_ratios=heights)
        colours = _colours(batches)
        end = max(batch.ended for batch in batches)
        _text(rows[0], batches, colours, end)
        _waiting(rows[1], batches, colours)
        for number, row in enumerate(rows[2:]):
            _replica(row, [batch for batch in batches if batch.replica == number], colours, end)
            row.set_ylabel(f"replica {number}", rotation=0, ha="right", va="center")
        _frame(figure, rows, end, colours, title)
        written = StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _colours(batches: Sequence[TracedBatch]) -> dict[str, str]:
    """Colours by group, in the order of the groups' first members."""
    items = sorted((item for batch in batches for item in batch.items), key=lambda item: item.accepted)
    groups = [group for group in dict.fromkeys(item.group for item in items) if group != SINGLE]
    return {**{group: _COLOURS[at % len(_COLOURS)] for at, group in enumerate(groups)}, SINGLE: _SINGLE_COLOUR}


def _text(row: Any, batches: Sequence[TracedBatch], colours: dict[str, str], end: float) -> None:
    """Render and encode of each item; threads are told apart by what overlaps."""
    items = sorted((item for batch in batches for item in batch.items), key=lambda item: item.started)
    for item in items:
        row.barh(0, max(item.encoded - item.started, _LEAST_VISIBLE * end), left=item.started, color=colours[item.group])
    typical = [
        1e3 * median(times) for times in zip(*((i.rendered - i.started, i.encoded - i.rendered) for i in items), strict=True)
    ]
    told = "render {:.1f} ms, encode {:.1f} ms (median of an item)".format(*typical)
    row.text(end, 0, told, ha="right", va="center", fontsize=7.5)
    row.set_ylabel("text\nthreads", rotation=0, ha="right", va="center")
    row.set_yticks([])


def _waiting(row: Any, batches: Sequence[TracedBatch], colours: dict[str, str]) -> None:
    """How many items of each group wait to be put into a batch."""
    stays = [(item.group, item.queued, batch.received) for batch in batches for item in batch.items]
    times = sorted({0.0, *(time for _, *both in stays for time in both)})
    counts = [[sum(each == group and low <= at < high for each, low, high in stays) for at in times] for group in colours]
    row.stackplot(times, counts, colors=list(colours.values()), step="post", linewidth=0)
    most = max(map(sum, zip(*counts, strict=True)))
    row.set_yticks([0, most])
    row.set_ylim(0, most * 1.12)
    row.set_ylabel("items that wait\nfor a batch", rotation=0, ha="right", va="center")


def _replica(row: Any, batches: Sequence[TracedBatch], colours: dict[str, str], end: float) -> None:
    """Above: handed over and packed, then waiting for the device. Below: the forward, solid where tokens are computed."""
    for batch in batches:
        pack = max(batch.packed - batch.received, _LEAST_VISIBLE * end)
        row.barh(0.87, pack, 0.18, left=batch.received, color=_INK, zorder=3)
        row.barh(0.87, batch.started - batch.received, 0.07, left=batch.received, color=_INK, alpha=0.45)
        _forward(row, batch, colours)
        _label(row, batch, end)
    row.set_ylim(0, 1)
    row.set_yticks([0.04 + _FORWARD / 2, 0.87], labels=["forward", "waits"])


def _forward(row: Any, batch: TracedBatch, colours: dict[str, str]) -> None:
    parts = _parts(batch)
    full = sum(item.tokens for item in batch.items)
    pieces = [(part.group, part.computed, 1.0) for part in parts] + [(part.group, part.saved, _FAINT) for part in parts]
    bottoms = [0.0, *accumulate(tokens for _, tokens, _ in pieces)]
    width = batch.ended - batch.started
    for (group, tokens, alpha), bottom in zip(pieces, bottoms, strict=False):
        height, low = _FORWARD * tokens / full, 0.04 + _FORWARD * bottom / full
        row.bar(batch.started, height, width, low, align="edge", color=colours[group], alpha=alpha, linewidth=0)
    row.bar(batch.started, _FORWARD, width, 0.04, align="edge", fill=False, edgecolor=_INK, linewidth=0.6)


def _parts(batch: TracedBatch) -> list[_Part]:
    """What each group computes and saves. A prompt that is computed here is counted for the groups that share tokens."""
    groups = sorted({item.group for item in batch.items}, key=lambda group: group != SINGLE)
    members = {group: [item for item in batch.items if item.group == group] for group in groups}
    own = {group: _own(items) for group, items in members.items()}
    shared = {group: sum(item.shared_tokens for item in items) for group, items in members.items()}
    prompts = max(0, batch.computed_tokens - sum(own.values()))
    parts = []
    for group, items in members.items():
        computed = own[group] + (prompts * shared[group] / sum(shared.values()) if shared[group] else 0.0)
        parts.append(_Part(group, computed, max(0.0, sum(item.tokens for item in items) - computed)))
    return parts


def _own(items: Sequence[TracedItem]) -> int:
    return sum(item.tokens - item.shared_tokens for item in items)


def _label(row: Any, batch: TracedBatch, end: float) -> None:
    full = sum(item.tokens for item in batch.items)
    width = (batch.ended - batch.started) / end * _WIDTH
    count = len(batch.items)
    lines = [f"{count} item{'s' if count > 1 else ''}", f"{full:,} tokens"]
    if full > batch.computed_tokens:
        lines = [f"{lines[0]}, {lines[1]}", f"{batch.computed_tokens:,} computed", f"{full - batch.computed_tokens:,} shared"]
    if width < (0.75 if full == batch.computed_tokens else 1.15):
        lines = [f"{batch.computed_tokens:,}", *([f"of {full:,}"] if full > batch.computed_tokens and width > 0.5 else [])]
    if width > 0.25:
        middle = (batch.started + batch.ended) / 2, 0.04 + _FORWARD / 2
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "alpha": 0.85, "linewidth": 0}
        row.text(*middle, "\n".join(lines), ha="center", va="center", fontsize=7, color="#24292f", bbox=box)


def _frame(figure: Any, rows: Sequence[Any], end: float, colours: dict[str, str], title: str) -> None:
    patch: Any = import_module("matplotlib.patches").Patch
    for row in rows:
        row.spines[["top", "right", "left"]].set_visible(False)
        row.grid(axis="x", color=_INK, alpha=0.2, linewidth=0.6)
        row.set_axisbelow(True)
        row.tick_params(length=0)
    rows[-1].set_xlim(0, end * 1.005)
    rows[-1].set_xlabel("seconds since the first conversation was accepted")
    names = [group for group in colours if group != SINGLE]
    handles = [patch(color=colours[group], label=f"answers to prompt {at + 1}") for at, group in enumerate(names)]
    handles += [patch(color=_SINGLE_COLOUR, label="single rollouts")]
    handles += [patch(color=_COLOURS[0], alpha=_FAINT, label="faint: shared, not computed")]
    handles += [patch(color=_INK, label="handed to the replica, packed")]
    legend = figure.legend(
        handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=8, title=title
    )
    legend.set(alignment="left")
    legend.get_title().set(fontsize=9.5)
