"""`prefix`: groups of answers to one prompt, with prefix sharing on against off, in the same engine.

Two servers stand side by side; while one is measured the other is held still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.bare import Bare, Way, bare_forward
from benchmarks.checkpoints import SHAPES, checkpoint
from benchmarks.comparison import largest_difference
from benchmarks.encoder import Encoder
from benchmarks.layouts import Layout
from benchmarks.load import Served, closed_loop
from benchmarks.options import Options
from benchmarks.report import Report, Table, ratios, verdict
from benchmarks.server import Server, reward_server
from benchmarks.workloads import GROUP_WORKERS, WORKERS, Conversation, Workload, shared_lengths, tokens

TARGET = 0.90
NOT_SLOWER = 0.97
"""Ratio that counts as not slower where nothing is shared: timings of pairs scatter by more than that."""
_CHECKED = 8
"""Conversations of a slice that are compared with the bare forward too; on and off are compared with each other for all."""
_GROUPS = {"1M": 96, "10M": 80, "100M": 32}
"""So many that the end, when one replica has nothing left to do, weighs little."""
_SINGLES = {"1M": 256, "10M": 128, "100M": 48}


@dataclass(frozen=True, slots=True)
class _Pair:
    """One slice of each, on the same conversations.

    Attributes:
        ideal: tokens of all over those that are left where each common prefix is computed once.
        by_operations: the same in operations: an answer attends to the whole of its prompt, wherever that was computed.
    """

    tokens: int
    ideal: float
    by_operations: float
    off: Served
    on: Served
    difference: float


@dataclass(frozen=True, slots=True)
class _Case:
    """A workload and how much of it is in flight."""

    title: str
    workers: int
    conversations: Callable[[int], list[Conversation]]
    is_shared: bool


def run(options: Options) -> Report:
    """Measures each model that the options name."""
    report = Report("prefix")
    rows: list[dict[str, object]] = []
    for size in options.sizes:
        folder = checkpoint(size)
        with (
            bare_forward(folder) as bare,
            reward_server(folder, options.settings, prefix_sharing=False) as off,
            reward_server(folder, options.settings, prefix_sharing=True) as on,
        ):
            report.settings |= {f"{size} off": off.settings, f"{size} on": on.settings}
            for case in _cases(Workload(Encoder(folder)), size, quick=options.quick):
                pairs = _pairs(case, bare, off, on, options, size)
                rows.append(_row(size, case, pairs))
                report.slices[f"{size} {case.title}"] = [asdict(pair) for pair in pairs]
    report.tables = [
        Table(
            "Prefix sharing on over off",
            rows,
            "Tokens are those of the full conversations. The ideal is the full tokens over those that are left when members "
            "of a group share each common prefix; by operations it counts attention too, which an answer owes to its whole "
            "prompt wherever that was computed. Ratios are medians of paired slices.",
        )
    ]
    return report


def _cases(workload: Workload, size: str, *, quick: bool) -> list[_Case]:
    groups, singles = (4, 16) if quick else (_GROUPS[size], _SINGLES[size])
    return [
        _Case("W2, groups of 8", GROUP_WORKERS, lambda repeat: workload.groups(groups, repeat), is_shared=True),
        _Case("W1, nothing shared", WORKERS, lambda repeat: workload.rollouts(singles, repeat), is_shared=False),
    ]


def _pairs(case: _Case, bare: Bare, off: Server, on: Server, options: Options, size: str) -> list[_Pair]:
    pairs = []
    for at in range(-1, options.repeats):  # the first warms both servers and is not counted
        conversations = case.conversations(options.repeat())
        if at < 0:
            conversations = conversations[:_CHECKED]
        first, second = (off, on) if at % 2 else (on, off)
        served = {id(first): _slice(first, second, conversations, case.workers)}
        served[id(second)] = _slice(second, first, conversations, case.workers)
        pair = _compared(size, bare, (off, on), conversations, served[id(off)], served[id(on)], options.cores)
        options.say(f"{size} {case.title} {at + 1}/{options.repeats}: off {pair.off.seconds:.1f} s, on {pair.on.seconds:.1f} s")
        if at >= 0:
            pairs.append(pair)
    return pairs


def _slice(measured: Server, still: Server, conversations: Sequence[Conversation], workers: int) -> Served:
    with still.child.paused():
        return closed_loop(measured.address, measured.child.pid, conversations, workers)


def _compared(
    size: str,
    bare: Bare,
    servers: tuple[Server, Server],
    conversations: list[Conversation],
    off: Served,
    on: Served,
    cores: int,
) -> _Pair:
    sample = conversations[:_CHECKED]
    with servers[0].child.paused(), servers[1].child.paused():
        reference = bare.score(sample, Way(Layout("single"), cores)).scores
    for served in (off, on):
        largest_difference(served.scores[: len(sample)], reference, dtype="float32", of="the service")
    difference = largest_difference(on.scores, off.scores, dtype="float32", of="prefix sharing")
    lengths, flops = shared_lengths(conversations), SHAPES[size].flops
    all_tokens, left_tokens = tokens(conversations), sum(length - shared for length, shared in lengths)
    all_flops = sum(flops(length) for length, _ in lengths)
    left_flops = sum(flops(length) - flops(shared) for length, shared in lengths)
    return _Pair(all_tokens, all_tokens / left_tokens, all_flops / left_flops, off, on, difference)


def _row(size: str, case: _Case, pairs: Sequence[_Pair]) -> dict[str, object]:
    ratio = ratios([pair.off.seconds for pair in pairs], [pair.on.seconds for pair in pairs])
    ideal, by_operations = (median(getattr(pair, name) for pair in pairs) for name in ("ideal", "by_operations"))
    return {
        "model": size,
        "workload": case.title,
        "off tokens/s": median(pair.tokens / pair.off.seconds for pair in pairs),
        "on tokens/s": median(pair.tokens / pair.on.seconds for pair in pairs),
        "on / off": ratio["median"],
        "least": ratio["least"],
        "greatest": ratio["greatest"],
        "ideal": ideal,
        "of ideal": ratio["median"] / ideal,
        "ideal by operations": by_operations,
        "of that": ratio["median"] / by_operations,
        "target": verdict(ratio["median"] / ideal, TARGET) if case.is_shared else verdict(ratio["median"], NOT_SLOWER),
        "tokens shared, as told": median(pair.on.shared_tokens / pair.tokens for pair in pairs),
        "largest difference on to off": max(pair.difference for pair in pairs),
    }
