"""Files that a command writes at its end: looked at before the work, so that none of it is lost."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rm_grpc_cli.plots import check_picture


def check_outputs(json_file: Path | None, picture: Path | None, *, source: Path | None = None) -> None:
    """Looks whether results can be written.

    Args:
        source: the input, which no output may overwrite.

    Raises:
        click.ClickException: they cannot.
    """
    for output in (json_file, picture):
        if output is None:
            continue
        if source is not None and output.exists() and output.samefile(source):
            raise click.UsageError(f"{output} would overwrite the input; name another file")
        if not output.parent.is_dir():
            raise click.UsageError(f"{output}: there is no folder {output.parent}")
    if picture is not None:
        check_picture(picture)


def write_json(file: Path, value: object) -> None:
    """Writes a report; raises ValueError where a number in it is not finite."""
    file.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
