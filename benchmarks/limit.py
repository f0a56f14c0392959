"""`limit`: the whole service against the best bare forward of the same weights and conversations, on the same cores.

A slice of the bare forward (server held still) and a slice of the service (bare model asleep) take turns, on the same
conversations, so that what else the machine does in these minutes meets both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bare import Bare, Way, bare_forward, try_ways, ways
from benchmarks.checkpoints import SHAPES, checkpoint
from benchmarks.comparison import largest_difference
from benchmarks.encoder import Encoder
from benchmarks.load import closed_loop
from benchmarks.options import Options
from benchmarks.report import Report, Table, ratios, verdict
from benchmarks.server import Server, reward_server
from benchmarks.workloads import WORKERS, Conversation, Workload, tokens

TARGET = 0.95
_SLICE = {"1M": 256, "10M": 96, "100M": 24}
"""Conversations of a slice: about ten seconds."""
_SAMPLE = {"1M": 64, "10M": 24, "100M": 6}
_WARM = 4
_SWEEP: Sequence[Mapping[str, Any]] = (
    {"torch_threads": 1},
    {"torch_threads": 2},
    {"replicas": 1},
    {"replicas": 2, "torch_threads": 1},
    {"text_threads": 1},
    {"text_threads": 2},
    {"max_batch_tokens": 256},
    {"max_batch_tokens": 1024},
    {"max_batch_tokens": 2048},
)


@dataclass(frozen=True, slots=True)
class _Pair:
    """One slice of each, on the same conversations."""

    tokens: int
    flops: float
    bare_seconds: float
    bare_cpu: float
    service_seconds: float
    service_cpu: float
    difference: float


def run(options: Options) -> Report:
    """Measures each model that the options name."""
    report = Report("limit")
    summary, tried = [], []
    for size in options.sizes:
        for dtype in ("float32", "bfloat16") if options.sweep else ("float32",):
            folder = checkpoint(size, dtype)
            with bare_forward(folder, processes=options.cores) as bare:
                best, rows, rates = _best(bare, folder, size, dtype, options)
                tried += rows
                variants = ({}, *_SWEEP) if options.sweep else ({},)
                for variant in variants:
                    row, pairs, told = _measured(bare, best, size, dtype, variant, rates, options)
                    summary.append(row)
                    key = " ".join([size, dtype, *(f"{name}={value}" for name, value in variant.items())])
                    report.slices[key] = [asdict(pair) for pair in pairs]
                    report.settings[key] = told
    report.tables = [
        Table(
            "The service over the best bare forward",
            summary,
            f"W1, {WORKERS} in flight. Tokens are those of the full conversations. The ratio is the median of paired slices; "
            "GFLOP/s count two operations for each weight of the layers and each token, and causal attention.",
        ),
        Table("Bare forwards that were tried", tried, "Inputs are built before the clock starts; scores are read from each."),
    ]
    return report


def _best(
    bare: Bare, folder: Path, size: str, dtype: str, options: Options
) -> tuple[Way, list[dict[str, object]], dict[int, float]]:
    """The fastest way, a row for each way that was tried, and the rate of matrix products for each number of threads."""
    sample = Workload(Encoder(folder)).rollouts(_SAMPLE[size] // (2 if options.quick else 1), options.repeat())
    wanted = ways(options.cores, quick=options.quick)
    options.say(f"{size} {dtype}: trying {len(wanted)} ways of a bare forward")
    tried = try_ways(bare, sample, wanted)
    reference = next(one for one in tried if one.way == wanted[0]).scores
    rows: list[dict[str, object]] = [
        {
            "model": size,
            "dtype": dtype,
            "way": f"**{one.way}**" if one is tried[0] else str(one.way),
            "tokens/s": one.rate,
            "GFLOP/s": one.rate * _flops(size, sample) / tokens(sample) / 1e9,
            "largest difference": largest_difference(one.scores, reference, dtype=dtype, of=f"bare, {one.way}"),
        }
        for one in tried
    ]
    products = {threads: bare.matmul(threads) for threads in sorted({1, options.cores})}
    for threads, product in products.items():
        what = f"matrix products alone, {threads} thread{'s' if threads > 1 else ''}"
        rows.append({"model": size, "dtype": dtype, "way": what, "GFLOP/s": product / 1e9})
    return tried[0].way, rows, products


def _measured(
    bare: Bare, best: Way, size: str, dtype: str, variant: Mapping[str, Any], products: Mapping[int, float], options: Options
) -> tuple[dict[str, object], list[_Pair], Mapping[str, Any]]:
    folder = checkpoint(size, dtype)
    workload = Workload(Encoder(folder))
    count = _SLICE[size] // (4 if options.quick else 1)
    with reward_server(folder, options.settings, **variant) as server:
        closed_loop(server.address, server.child.pid, workload.rollouts(_WARM, options.repeat()), WORKERS)
        pairs = []
        for at in range(options.repeats):
            pairs.append(_pair(bare, best, server, workload.rollouts(count, options.repeat()), size, dtype))
            options.say(f"{size} {dtype} {dict(variant)} {at + 1}/{options.repeats}: {_told(pairs[-1])}")
    ratio = ratios([one.bare_seconds for one in pairs], [one.service_seconds for one in pairs])
    product = max(products.values())
    row: dict[str, object] = {
        "model": size,
        "dtype": dtype,
        "settings": ", ".join(f"{name} {value}" for name, value in variant.items()) or "as given",
        "service tokens/s": median(one.tokens / one.service_seconds for one in pairs),
        "bare tokens/s": median(one.tokens / one.bare_seconds for one in pairs),
        "service / bare": ratio["median"],
        "least": ratio["least"],
        "greatest": ratio["greatest"],
        "target": verdict(ratio["median"], TARGET),
        "bare way": str(best),
        "bare / matrix products": median(one.flops / one.bare_seconds for one in pairs) / product,
        "service / matrix products": median(one.flops / one.service_seconds for one in pairs) / product,
        "server CPU s / wall s": median(one.service_cpu / one.service_seconds for one in pairs),
        "largest difference": max(one.difference for one in pairs),
    }
    return row, pairs, server.settings


def _pair(bare: Bare, best: Way, server: Server, conversations: Sequence[Conversation], size: str, dtype: str) -> _Pair:
    with server.child.paused():
        alone = bare.score(conversations, best)
    served = closed_loop(server.address, server.child.pid, conversations, WORKERS)
    difference = largest_difference(served.scores, alone.scores, dtype=dtype, of=f"the service, {size}")
    return _Pair(
        tokens(conversations),
        _flops(size, conversations),
        alone.seconds,
        alone.cpu,
        served.seconds,
        served.cpu,
        difference,
    )


def _flops(size: str, conversations: Sequence[Conversation]) -> float:
    return sum(SHAPES[size].flops(len(one.ids)) for one in conversations)


def _told(pair: _Pair) -> str:
    return f"bare {pair.tokens / pair.bare_seconds:.0f}, service {pair.tokens / pair.service_seconds:.0f} tokens/s"
