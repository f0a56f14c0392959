"""`modes`: what deterministic mode costs. Two servers stand side by side; while one is measured the other is held still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from statistics import median

from benchmarks.checkpoints import checkpoint
from benchmarks.comparison import largest_difference
from benchmarks.encoder import Encoder
from benchmarks.load import Served, closed_loop
from benchmarks.options import Options
from benchmarks.report import Report, Table, ratios
from benchmarks.server import Server, reward_server
from benchmarks.workloads import WORKERS, Conversation, Workload, tokens

_SLICE = {"1M": 256, "10M": 64, "100M": 16}
_WARM = 4


@dataclass(frozen=True, slots=True)
class _Pair:
    """One slice of each, on the same conversations, and how many scores had other bits when they were sent again.

    They are sent again in another order and with half as many in flight.
    """

    tokens: int
    usual: Served
    deterministic: Served
    usual_changed: int
    deterministic_changed: int
    difference: float


def run(options: Options) -> Report:
    """Measures the first model that the options name."""
    size = options.sizes[0]
    folder = checkpoint(size)
    workload = Workload(Encoder(folder))
    report, pairs = Report("modes"), []
    count = _SLICE[size] // (4 if options.quick else 1)
    with (
        reward_server(folder, options.settings, deterministic=False) as usual,
        reward_server(folder, options.settings, deterministic=True) as deterministic,
    ):
        report.settings |= {"usual": usual.settings, "deterministic": deterministic.settings}
        for server, other in ((usual, deterministic), (deterministic, usual)):
            _slice(server, other, workload.rollouts(_WARM, options.repeat()))
        for at in range(options.repeats):
            pairs.append(
                _pair(usual, deterministic, workload.rollouts(count, options.repeat()), deterministic_first=at % 2 == 1)
            )
            options.say(
                f"{size} {at + 1}/{options.repeats}: usual {pairs[-1].usual.seconds:.1f} s, "
                f"deterministic {pairs[-1].deterministic.seconds:.1f} s"
            )
    report.slices[size] = [asdict(pair) for pair in pairs]
    report.tables = [
        Table(
            "Deterministic mode over the usual one",
            [_row(size, count, pairs)],
            f"W1, float32, {WORKERS} in flight. The ratio is the median of paired slices. Changed bits: scores that are not "
            "bit for bit the same when the conversations are sent again in another order with half as many in flight.",
        )
    ]
    return report


def _pair(usual: Server, deterministic: Server, conversations: Sequence[Conversation], *, deterministic_first: bool) -> _Pair:
    if deterministic_first:
        second = _slice(deterministic, usual, conversations)
        first = _slice(usual, deterministic, conversations)
    else:
        first = _slice(usual, deterministic, conversations)
        second = _slice(deterministic, usual, conversations)
    difference = largest_difference(second.scores, first.scores, dtype="float32", of="deterministic mode")
    return _Pair(
        tokens(conversations),
        first,
        second,
        _changed(usual, deterministic, conversations, first),
        _changed(deterministic, usual, conversations, second),
        difference,
    )


def _slice(measured: Server, still: Server, conversations: Sequence[Conversation], workers: int = WORKERS) -> Served:
    with still.child.paused():
        return closed_loop(measured.address, measured.child.pid, conversations, workers)


def _changed(measured: Server, still: Server, conversations: Sequence[Conversation], before: Served) -> int:
    """How many scores differ when the same conversations come in another order and with others beside them."""
    order = list(range(len(conversations)))
    Random(0).shuffle(order)
    again = _slice(measured, still, [conversations[at] for at in order], WORKERS // 2)
    return sum(score != before.scores[at] for at, score in zip(order, again.scores, strict=True))


def _row(size: str, count: int, pairs: Sequence[_Pair]) -> dict[str, object]:
    ratio = ratios([pair.usual.seconds for pair in pairs], [pair.deterministic.seconds for pair in pairs])
    scores = count * len(pairs)
    return {
        "model": size,
        "usual tokens/s": median(pair.tokens / pair.usual.seconds for pair in pairs),
        "deterministic tokens/s": median(pair.tokens / pair.deterministic.seconds for pair in pairs),
        "deterministic / usual": ratio["median"],
        "least": ratio["least"],
        "greatest": ratio["greatest"],
        "largest difference": max(pair.difference for pair in pairs),
        "changed bits, usual": f"{sum(pair.usual_changed for pair in pairs)} of {scores}",
        "changed bits, deterministic": f"{sum(pair.deterministic_changed for pair in pairs)} of {scores}",
    }
