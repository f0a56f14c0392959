"""`rm-grpc tokenize`: what a model would read, to see templates and BOS tokens before trusting a score."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console
from rich.text import Text

from rm_grpc.json_lines import item_of_line
from rm_grpc.types import TokenizeResult
from rm_grpc_cli.target import open_target, target_options


@click.command()
@click.argument("file", type=click.File("rb"))
@target_options
def command(file: BinaryIO, address: str, model: str, config: Path | None) -> None:
    """Show the rendered text, the ids and what is remarkable about each conversation of FILE (JSONL, - for standard input)."""
    items = [item_of_line(line) for line in file if line.strip()]
    console = Console(highlight=False)
    notices = Console(stderr=True)
    with open_target(address, model, config, notices) as target, target.connect() as client:
        for result in client.tokenize(items):
            _show(console, result)


def _show(console: Console, result: TokenizeResult) -> None:
    console.rule(Text(f"conversation {result.id}"))
    if (read := result.tokenization) is not None:
        console.print(Text(read.rendered_text), soft_wrap=True)
        console.print(Text(f"ids: {' '.join(map(str, read.ids))}"), style="dim", soft_wrap=True)
        facts = [f"{len(read.ids)} tokens", f"{read.bos_count} BOS", f"read at {', '.join(map(str, read.read_positions))}"]
        facts += ["truncated"] * read.truncated
        if read.control_tokens_in_content:
            facts.append(f"control tokens in content: {' '.join(read.control_tokens_in_content)}")
        if read.foreign_markers_in_content:
            facts.append(f"chat markers in content: {' '.join(read.foreign_markers_in_content)}")
        console.print(Text(" · ".join(facts)), soft_wrap=True)
    if result.error is not None:
        console.print(Text(f"would be refused: {result.error.reason}: {result.error}"), style="red", soft_wrap=True)
