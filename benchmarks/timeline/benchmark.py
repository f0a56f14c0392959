"""`timeline`: what happens where while groups of answers and single rollouts stream in; draws docs/timeline.svg."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.options import Options
from benchmarks.places import DOCS
from benchmarks.report import Report, Table
from benchmarks.timeline.capture import TracedBatch, capture
from benchmarks.timeline.picture import draw, require_matplotlib


def run(options: Options) -> Report:
    """Streams, draws, and tells of the batches.

    Raises:
        NoMatplotlibError: it cannot be drawn here.
    """
    require_matplotlib()
    batches = capture(options)
    items = [item for batch in batches for item in batch.items]
    full, computed = sum(item.tokens for item in items), sum(batch.computed_tokens for batch in batches)
    title = (
        f"{len(items)} conversations of {full:,} tokens stream to the {options.sizes[0]} model on "
        f"{options.cores} CPU cores; {computed:,} tokens are computed"
    )
    DOCS.mkdir(exist_ok=True)
    (DOCS / "timeline.svg").write_text(draw(batches, title))
    options.say(f"drawn: {DOCS / 'timeline.svg'}")
    report = Report("timeline", slices={"batches": [asdict(batch) for batch in batches]})
    report.tables = [
        Table(
            "Batches",
            [_row(batch) for batch in batches],
            "Times are seconds since the first conversation was accepted. The trace does not say which replica a batch was "
            "computed by; what overlaps is taken to run on different ones.",
        )
    ]
    return report


def _row(batch: TracedBatch) -> dict[str, object]:
    return {
        "replica": batch.replica,
        "handed over": f"{batch.received:.3f}",
        "forward": f"{batch.started:.3f} to {batch.ended:.3f}",
        "items": len(batch.items),
        "tokens": sum(item.tokens for item in batch.items),
        "computed": batch.computed_tokens,
    }
