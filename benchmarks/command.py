"""The command line of the benchmarks that need the whole service."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import yaml

from benchmarks.checkpoints import SHAPES
from benchmarks.machine import Machine
from benchmarks.options import Options
from benchmarks.places import RESULTS
from benchmarks.server import Settings

NAMES = {
    "limit": "benchmarks.limit",
    "prefix": "benchmarks.prefix",
    "overhead": "benchmarks.overhead",
    "peers": "benchmarks.peers.benchmark",
    "modes": "benchmarks.modes",
    "text": "benchmarks.text.benchmark",
    "timeline": "benchmarks.timeline.benchmark",
    "gpu": "benchmarks.gpu.benchmark",
}
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("name", type=click.Choice(list(NAMES)))
@click.option("--quick", is_flag=True, help="a small run that shows that everything works; its figures mean little")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, help="folder for NAME.json and NAME.md"
)
@click.option("--model", "sizes", multiple=True, type=click.Choice(list(SHAPES)), help="sizes of models; again for more")
@click.option("--repeats", type=int, default=0, help="pairs of slices; by default 5, and 1 with --quick")
@click.option("--sweep", is_flag=True, help="limit: further settings and bfloat16, which takes long")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="a setting for every server of ours; again for more")
@click.option("--leave-out", multiple=True, metavar="KEY", help="a setting that the server does not know; again for more")
@click.option("--only", multiple=True, metavar="PEER", help="peers, text: measure these only; again for more")
@click.option("--family", "families", multiple=True, help="text: measure these tokenizers only; again for more")
@click.option("--tokenizers", type=_FOLDER, help="text: folder with a folder for each tokenizer; by default the tests' own")
@click.option("--conversations", type=_FILE, help="text: conversations as gzipped JSON lines, whose text is measured too")
def main(
    name: str,
    quick: bool,
    out: Path,
    sizes: tuple[str, ...],
    repeats: int,
    sweep: bool,
    given: tuple[str, ...],
    leave_out: tuple[str, ...],
    only: tuple[str, ...],
    families: tuple[str, ...],
    tokenizers: Path | None,
    conversations: Path | None,
) -> None:
    """Measure one thing, print its tables and write them to a folder."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that child processes end too
    options = Options(
        quick=quick,
        sizes=sizes or (("10M",) if quick else ("10M", "100M")),
        repeats=repeats or (1 if quick else 5),
        sweep=sweep,
        settings=Settings(_parsed(given), frozenset(leave_out)),
        only=only,
        families=families,
        tokenizers=tokenizers,
        conversations=conversations,
    )
    machine = Machine()
    report = import_module(NAMES[name]).run(options)
    report.others = machine.others()
    report.write(out)
    click.echo((out / f"{name}.md").read_text())


def _parsed(given: tuple[str, ...]) -> dict[str, Any]:
    pairs = [text.partition("=") for text in given]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise click.BadParameter(f"{wrong[0]}: say KEY=VALUE", param_hint="--set")
    return {key: yaml.safe_load(value) for key, _, value in pairs}
