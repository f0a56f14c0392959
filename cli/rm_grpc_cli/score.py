"""`rm-grpc score`: a JSONL file in, one line of output for each line of input, in order and resumable."""

from __future__ import annotations

import json
import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import IO

import click
from rich.console import Console

from rm_grpc.errors import RewardError
from rm_grpc.json_lines import item_of_line
from rm_grpc_cli.lines import line_digest, output_line
from rm_grpc_cli.progress import progress
from rm_grpc_cli.target import open_target, target_options
from rm_grpc_client import Item, RewardClient, Score


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="JSONL file to write")
@target_options
def command(file: Path, output: Path, address: str, model: str, config: Path | None) -> None:
    """Score the conversations of FILE, one JSON object a line.

    A line is a list of messages, or an object with "messages", with "prompt" and "response", or with "text"; it may have an
    "id". Each line of the output is the score or the error of the same line of the input. An output that is there already is
    continued. Ctrl-C finishes what is in flight; a second one ends at once.
    """
    console = Console(stderr=True)
    total = sum(1 for _ in _lines(file))
    if output.exists() and output.samefile(file):
        raise click.UsageError("the output would overwrite the input; name another file")
    before = _written(file, output)
    done = before.lines
    if done:
        click.echo(f"{output} has {done} of {total} lines; going on from there", err=True)
    if done == total:
        click.echo("nothing is left to score", err=True)
        return
    with open_target(address, model, config, console) as target, target.connect() as client:
        digest = client.get_model().model_digest
        if before.model_digest not in ("", digest):
            raise click.ClickException(
                f"{output} holds scores of the model with digest {before.model_digest}, and this one is {digest}; name another"
            )
        run = _Run(file, output, done).score(client, total, console)
    click.echo(f"{run.scored} scored, {run.failed} errors, {total - done - run.written} left, in {output}", err=True)
    if run.interrupted:
        raise SystemExit(130)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of input on its way: its number, the caller's id, and its digest."""

    number: int
    id: str
    digest: str


class _Run:
    """One pass over the rest of a file.

    Attributes:
        scored, failed: outcomes written.
        interrupted: whether Ctrl-C ended the reading.
    """

    def __init__(self, file: Path, output: Path, done: int) -> None:
        self.scored = self.failed = 0
        self.interrupted = False
        self._file = file
        self._output = output
        self._done = done
        self._read: deque[_Line] = deque()
        self._outcomes: dict[int, Score | RewardError] = {}

    @property
    def written(self) -> int:
        """Lines written."""
        return self.scored + self.failed

    def score(self, client: RewardClient, total: int, console: Console) -> _Run:
        """Scores what is left and writes it in the input's order."""
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            with (
                self._output.open("a", encoding="utf-8") as out,
                progress("scoring", total, console, done=self._done) as advance,
            ):
                for result in client.score_stream(self._items()):
                    self._outcomes[int(result.id)] = result.outcome
                    advance(self._write_ready(out))
                advance(self._write_ready(out))
        finally:
            signal.signal(signal.SIGINT, before)
        return self

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def _items(self) -> Iterator[Item]:
        """The items, named by their lines; a line that cannot be read has its outcome already."""
        for number, line in enumerate(_lines(self._file)):
            if self.interrupted:
                return
            if number < self._done:
                continue
            try:
                item = item_of_line(line)
            except RewardError as error:
                self._outcomes[number] = error
                self._read.append(_Line(number, "", line_digest(line)))
            else:
                self._read.append(_Line(number, item.id, line_digest(line)))
                yield replace(item, id=str(number))

    def _write_ready(self, out: IO[str]) -> int:
        before = self.written
        while self._read and (outcome := self._outcomes.pop(self._read[0].number, None)) is not None:
            line = self._read.popleft()
            out.write(output_line(line.number, line.id, line.digest, outcome) + "\n")
            if isinstance(outcome, RewardError):
                self.failed += 1
            else:
                self.scored += 1
        out.flush()
        return self.written - before


def _lines(file: Path) -> Iterator[bytes]:
    """Lines that hold something."""
    with file.open("rb") as lines:
        yield from (line for line in lines if line.strip())


@dataclass(frozen=True, slots=True)
class _Written:
    """What an output holds already: how many lines, and of which model."""

    lines: int
    model_digest: str


def _written(file: Path, output: Path) -> _Written:
    """What the output holds of this input; a last line that was cut off is removed, once the rest is known to be ours.

    Raises:
        click.ClickException: the output belongs to another input, or is no output at all.
    """
    if not output.exists():
        return _Written(0, "")
    raw = output.read_bytes()
    *whole, rest = raw.split(b"\n")
    inputs = _lines(file)
    models: set[str] = set()
    for number, line in enumerate(whole):
        try:
            known = json.loads(line)
            ours = known["input"] == line_digest(next(inputs, b""))
        except (ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            raise click.ClickException(f"{output}: line {number} is not the result of that line of {file}; name another output")
        if "model_digest" in known:
            models.add(known["model_digest"])
    beginning = f'{{"line": {len(whole)}, '.encode()
    if not (rest.startswith(beginning) or beginning.startswith(rest)):
        raise click.ClickException(f"{output}: its last line is no result of {file}; name another output")
    if rest:
        with output.open("r+b") as handle:
            handle.truncate(len(raw) - len(rest))
    return _Written(len(whole), models.pop() if models else "")
