"""Our encoder against itself: two threads over one, instruction sets over the plainest, and text that is one endless word."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.report import Row, ratios
from benchmarks.text.engines import BASELINE, OURS, Engine, EngineError
from benchmarks.text.kinds import Kind
from benchmarks.text.speed import Slice, encode

_LONG, _TEN_TIMES = 100_000, 1_000_000
_LINEAR = 15.0
"""The most that ten times the text may cost: ten, and something for caches that it no longer fits into."""


def thread_rows(ours: Engine, folder: str, family: str, kinds: Sequence[Kind], rounds: int, cores: int) -> list[Row]:
    """Threads of one process that encode with one encoder, each its share of documents that are new to it.

    One thread and several take turns with an encoder that was opened for each kind anew, after a portion that warms up what
    each thread keeps; the several warm up on as much more, so that each thread has met as many documents as the one.
    """
    rows: list[Row] = []
    for kind in kinds:
        ours.ask("open", folder=folder)
        warming, *portions = kind.portions(rounds + 1)
        third = len(warming) // (cores + 1)
        encode(ours, warming[:third])
        encode(ours, warming[third:], threads=cores)
        rates: dict[int, list[float]] = {1: [], cores: []}
        for portion in portions:
            half = len(portion) // 2
            for threads, documents in ((1, portion[:half]), (cores, portion[half:])):
                rates[threads].append(encode(ours, documents, threads=threads).rate)
        over = ratios(rates[cores], rates[1])
        row: dict[str, object] = {"tokenizer": family, "text": kind.name, "threads": cores, "over one thread": over["median"]}
        row |= {"least": over["least"], "greatest": over["greatest"]}
        rows.append(row | {"MB/s": median(rates[cores]), "one thread MB/s": median(rates[1])})
    return rows


def instruction_rows(ours: Engine, folder: str, family: str, kinds: Sequence[Kind], rounds: int) -> list[Row]:
    """Each instruction set of this processor over the scalar one, on the same documents after one call that warms up."""
    sets: list[str] = ours.ask("instructions")["sets"]
    rows: list[Row] = []
    for kind in kinds:
        documents = kind.portions(4)[0]
        rates: dict[str, list[float]] = {name: [] for name in sets}
        for at in range(rounds + 1):
            for name in sets if at % 2 else sets[::-1]:
                ours.ask("open", folder=folder, instructions=name)
                encode(ours, kind.portions(4)[1])
                rates[name].append(encode(ours, documents).cpu_rate)
        row: dict[str, object] = {"tokenizer": family, "text": kind.name}
        row |= {f"{name} / scalar": ratios(rates[name], rates["scalar"])["median"] for name in sets if name != "scalar"}
        rows.append(row | {f"{name} MB / CPU s": median(rates[name]) for name in sets})
    ours.ask("open", folder=folder)
    return rows


def linearity_rows(engines: Sequence[Engine], family: str, repeats: int) -> list[Row]:
    """What ten times the text costs, where all of it is one word of one letter, or one run of spaces.

    Every call has another letter, so that no cache of words knows it; of spaces there is one sort only.
    """
    rows: list[Row] = []
    for one in engines:
        if one.name not in (OURS, BASELINE):
            continue
        for name, letters in (("one letter", "abcdefghijklmnop"), ("spaces", " " * 16)):
            try:
                short = [_seconds(one, letters[2 * at] * _LONG) for at in range(repeats)]
                long = [_seconds(one, letters[2 * at + 1] * _TEN_TIMES) for at in range(repeats)]
            except EngineError as error:
                rows.append({"tokenizer": family, "engine": one.name, "text": name, "linear": f"failed: {error}"})
                continue
            ratio = median(long) / median(short)
            row: dict[str, object] = {"tokenizer": family, "engine": one.name, "text": name}
            row |= {"1 MB over 100 kB": ratio, "linear": "yes" if ratio <= _LINEAR else "no"}
            rows.append(row | {"100 kB ms": 1000 * median(short), "1 MB ms": 1000 * median(long)})
    return rows


def _seconds(one: Engine, text: str) -> float:
    found: Slice = encode(one, [text.encode()])
    return found.cpu
