"""New text through every engine in turns: one portion of documents a round, which no engine has met before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.environment import NotInstalledError
from benchmarks.processes import ChildFailedError
from benchmarks.report import Row, Table, ratios
from benchmarks.text.engines import BASELINE, OURS, PEERS, Engine, EngineError, engine
from benchmarks.text.kinds import Kind

AGAIN = 3
"""How often the last portion is repeated, for the speed on text that was met before."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One call of one engine.

    Attributes:
        size: bytes of UTF-8 that it encoded.
        seconds: wall clock of the call.
        cpu: CPU seconds of the process meanwhile.
        to_array: seconds from the call's result to one int32 array.
        digests: of each document's ids.
    """

    size: int
    seconds: float
    cpu: float
    to_array: float
    tokens: int
    digests: Sequence[bytes] = ()

    @property
    def rate(self) -> float:
        """MB/s, a megabyte being a million bytes."""
        return self.size / self.seconds / 1e6

    @property
    def cpu_rate(self) -> float:
        """MB for each second of CPU time, which others on the machine disturb less."""
        return self.size / self.cpu / 1e6


@dataclass(slots=True)
class Found:
    """What was found of one engine for one tokenizer and kind of text.

    Attributes:
        new: slices on text that it had not met.
        again: slices on the last portion once more.
        wrong: documents whose ids are not the baseline's.
        compared: documents that were compared.
        failure: why it was not measured, or not any more.
    """

    new: list[Slice] = field(default_factory=list)
    again: list[Slice] = field(default_factory=list)
    wrong: int = 0
    compared: int = 0
    failure: str = ""

    def rate(self) -> float | None:
        """Median of the rates on new text."""
        return median(one.rate for one in self.new) if self.new else None


Findings = dict[str, Found]


@contextmanager
def engines(only: Sequence[str], say: Callable[[str], None]) -> Iterator[tuple[list[Engine], dict[str, str]]]:
    """Starts ours, the baseline and the peers; beside them, why those that are missing are missing."""
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        running = []
        for name in [OURS, BASELINE, *(peer for peer in PEERS if not only or peer in only)]:
            say(f"starting {name}")
            try:
                running.append(stack.enter_context(engine(name)))
            except NotInstalledError as error:
                missing[name] = str(error)
        yield running, missing


def encode(one: Engine, documents: Sequence[bytes], **options: Any) -> Slice:
    """One call."""
    return Slice(sum(map(len, documents)), **one.ask("encode", documents=list(documents), **options))


def measure(running: Sequence[Engine], opened: Mapping[str, str], kind: Kind, rounds: int) -> Findings:
    """Every engine on every portion, interleaved; the order turns around from round to round.

    Args:
        opened: why engines could not open this tokenizer, those that could not.
    """
    found = {one.name: Found(failure=opened.get(one.name, "")) for one in running}
    alive = [one for one in running if one.name not in opened]
    first, *portions = kind.portions(rounds + 1)
    for one in alive:
        _try(found[one.name], one, first)
    for at, portion in enumerate(portions):
        slices = {}
        for one in alive if at % 2 == 0 else alive[::-1]:
            if taken := _try(found[one.name], one, portion, digests=True):
                slices[one.name] = taken
                found[one.name].new.append(taken)
        _compare(found, slices)
    for one in alive:
        again = [_try(found[one.name], one, portions[-1]) for _ in range(AGAIN)]
        found[one.name].again += [taken for taken in again if taken]
    return found


def _try(found: Found, one: Engine, documents: Sequence[bytes], **options: Any) -> Slice | None:
    """A call of an engine that has not failed; a failure ends its measuring."""
    if found.failure:
        return None
    try:
        return encode(one, documents, **options)
    except (EngineError, ChildFailedError) as error:
        found.failure = str(error)
        return None


def _compare(found: Findings, slices: Mapping[str, Slice]) -> None:
    if BASELINE not in slices:
        return
    for name, one in slices.items():
        found[name].compared += len(one.digests)
        found[name].wrong += sum(a != b for a, b in zip(one.digests, slices[BASELINE].digests, strict=True))


def open_all(running: Sequence[Engine], folder: Path) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Opens a tokenizer with each engine: what each says of itself, and why those that failed did."""
    told, failures = {}, {}
    for one in running:
        answer = _opened(one, folder)
        if isinstance(answer, str):
            failures[one.name] = short(answer)
        else:
            told[one.name] = answer
    return told, failures


def _opened(one: Engine, folder: Path) -> dict[str, str] | str:
    try:
        return one.ask("open", folder=str(folder))
    except (EngineError, ChildFailedError) as error:
        return str(error)


def speed_row(family: str, kind: Kind, found: Findings, *, again: bool = False, cpu: bool = False) -> Row:
    """The ratios first, then everyone's MB/s."""

    def slices(name: str) -> list[Slice]:
        return (found[name].again if again else found[name].new) if name in found else []

    def each(name: str) -> list[float]:
        return [one.cpu_rate if cpu else one.rate for one in slices(name)]

    def ratio(above: str, below: str) -> float | None:
        a, b = each(above), each(below)
        return ratios(a, b)["median"] if a and len(a) == len(b) else None

    rates = {name: median(each(name)) for name in found if slices(name)}
    peers = {name: rate for name, rate in rates.items() if name != OURS}
    best = max(peers, key=lambda name: peers[name], default="")
    return {
        "tokenizer": family,
        "text": kind.name,
        "ours / tokenizers 0.23": ratio(OURS, BASELINE),
        "ours / best peer": ratio(OURS, best) if best else None,
        "best peer": best or None,
        **{f"{name} MB/s": rates.get(name) for name in found},
    }


def exactness_rows(findings: Mapping[tuple[str, str], Findings]) -> list[Row]:
    """For each tokenizer and engine the documents, of all kinds together, whose ids are not the baseline's."""
    rows: list[Row] = []
    for family in dict.fromkeys(family for family, _ in findings):
        of_family = [found for (its, _), found in findings.items() if its == family]
        row: dict[str, object] = {"tokenizer": family}
        for name in of_family[0]:
            each = [found[name] for found in of_family]
            compared = sum(one.compared for one in each)
            row[name] = f"{sum(one.wrong for one in each)} of {compared:,}" if compared else f"- ({short(each[0].failure)})"
        rows.append(row)
    return rows


def engine_rows(
    findings: Mapping[tuple[str, str], Findings], told: Mapping[str, Mapping[str, str]], missing: Mapping[str, str]
) -> list[Row]:
    """What each engine returns, whether it kept to one thread, and what its ids cost as one array."""
    rows: list[Row] = []
    for name, says in told.items():
        slices = [one for found in findings.values() if name in found for one in found[name].new]
        if slices:
            rows.append(
                {
                    "engine": name,
                    "version": says["version"],
                    "returns": says["returns"],
                    "CPU s / wall s": sum(one.cpu for one in slices) / sum(one.seconds for one in slices),
                    "to one int32 array, share of the call": median(one.to_array / one.seconds for one in slices),
                }
            )
    return [*rows, *({"engine": name, "returns": f"not measured: {short(why)}"} for name, why in missing.items())]


def tables_of_speeds(findings: Mapping[tuple[str, str], Findings], kinds: Mapping[str, Kind]) -> list[Table]:
    """Speeds on new text, by the clock and by CPU time, and on text that was met before."""

    def rows(**which: bool) -> list[Row]:
        return [speed_row(family, kinds[kind], found, **which) for (family, kind), found in findings.items()]

    return [
        Table(
            "New text",
            rows(),
            "One thread on one core, megabytes of UTF-8 per second, the median of the rounds; ratios are medians of the rounds'"
            " ratios. Every round is a portion of documents that no engine has met, after a portion that warms it up. Only the "
            "call itself is timed, up to the result that the library gives by itself, and the texts are fresh str objects.",
        ),
        Table("New text, by CPU time", rows(cpu=True), "The same calls, megabytes per second of the process's CPU time."),
        Table(
            "Repeated text",
            rows(again=True),
            f"The last portion {AGAIN} times more in the same process, so that caches of words know it.",
        ),
    ]


def short(failure: str) -> str:
    """The failure's last line, without what would end a table's cell."""
    return failure.strip().splitlines()[-1][:160].replace("|", "/") if failure.strip() else ""
