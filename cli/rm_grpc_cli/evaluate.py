"""`rm-grpc evaluate`: a file of preferences in, accuracies of a served model out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock

import click
from rich.console import Console
from rich.text import Text

from rm_grpc_cli.evaluation.accuracy import ScoredSet
from rm_grpc_cli.evaluation.assembly import Assembly
from rm_grpc_cli.evaluation.picture import draw
from rm_grpc_cli.evaluation.report import Source, report
from rm_grpc_cli.evaluation.results import Results
from rm_grpc_cli.evaluation.sets import FailedSet, read_set
from rm_grpc_cli.evaluation.tables import tables, told_errors, told_notes
from rm_grpc_cli.outputs import check_outputs, write_json
from rm_grpc_cli.progress import progress
from rm_grpc_cli.target import open_target, target_options
from rm_grpc_client import Item, RewardClient

_ERRORS_STATUS = 3
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "json_file", type=_FILE, help="write every number there, with the model's digest")
@click.option("--picture", type=_FILE, help='draw histograms there (.png, .svg or .pdf); needs "rm-grpc[plots]"')
@target_options
def command(file: Path, json_file: Path | None, picture: Path | None, address: str, model: str, config: Path | None) -> None:
    """Measure how often a model prefers the chosen answers of FILE, one JSON object a line.

    A line has "chosen" and "rejected", each text or messages, and "prompt" unless those are whole conversations; it may have a
    "subset" and an "id". Lists of answers are judged as best of n. Files of RewardBench 1 and 2 get these benchmarks' own
    sections, weights and Ties score.

    A line that cannot be read or scored counts neither as right nor as wrong. The exit status is 0 where every line was scored,
    3 where some were not, and 1 or 2 where there is no result.
    """
    check_outputs(json_file, picture, source=file)
    source = _survey(file)
    console = Console(stderr=True)
    with open_target(address, model, config, console) as target, target.connect() as client:
        info = client.get_model()
        results = _Run(file, info.model_digest).score(client, source.lines, console)
    _show(results, f"{info.name} (digest {info.model_digest}) on {source.lines} lines of {file}")
    if json_file is not None:
        write_json(json_file, report(results, source, info))
    if picture is not None:
        draw(results.spread, f"{info.name} on {file.name}", picture)
    for told in told_errors(results):
        click.echo(told, err=True)
    if results.errors:
        raise SystemExit(_ERRORS_STATUS)


def _show(results: Results, heading: str) -> None:
    console = Console(highlight=False)
    console.print(Text(heading, style="bold"))
    for titled in tables(results):
        console.print(Text(f"\n{titled.title}\n"))
        console.print(titled.table)
    for note in ("", *told_notes(results)):
        console.print(Text(note, style="dim"))


class _Run:
    """One pass over a file. Lines are read on the client's feeding thread, and results taken in on the caller's."""

    def __init__(self, file: Path, model_digest: str) -> None:
        self._file = file
        self._model_digest = model_digest
        self._assembly = Assembly()
        self._results = Results()
        self._lock = Lock()

    def score(self, client: RewardClient, total: int, console: Console) -> Results:
        """Scores every answer.

        Raises:
            click.ClickException: the server's model changed on the way.
        """
        with progress("evaluating", total, console) as advance:
            for result in client.score_stream(self._items(advance)):
                if result.error is None and result.score.model_digest != self._model_digest:
                    raise click.ClickException(f"the model became another: its digest is now {result.score.model_digest}")
                if (settled := self._assembly.settle(result.id, result.outcome)) is not None:
                    self._take_in(settled, advance)
        return self._results

    def _items(self, advance: Callable[[float], None]) -> Iterator[Item]:
        for number, line in _lines(self._file):
            read = read_set(number, line)
            if isinstance(read, FailedSet):
                self._take_in(read, advance)
            else:
                yield from self._assembly.take_apart(read)

    def _take_in(self, outcome: ScoredSet | FailedSet, advance: Callable[[float], None]) -> None:
        with self._lock:
            self._results.add(outcome)
        advance(1)


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that hold something, with their numbers from 1."""
    with file.open("rb") as lines:
        yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _survey(file: Path) -> Source:
    """What is known of the file before its lines are read.

    Raises:
        click.ClickException: it has none.
    """
    digest, count = hashlib.sha256(), 0
    with file.open("rb") as lines:
        for line in lines:
            digest.update(line)
            count += bool(line.strip())
    if not count:
        raise click.ClickException(f"{file} holds no line")
    return Source(str(file), digest.hexdigest(), count)
