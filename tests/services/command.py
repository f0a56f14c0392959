"""The command line as a user runs it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def command(*arguments: str, columns: int | None = 80, **options: Any) -> subprocess.CompletedProcess[str]:
    """`rm-grpc` with these arguments, its output as text.

    Args:
        columns: width of its terminal; None leaves the environment alone.
        options: of `subprocess.run`.
    """
    if columns is not None:
        options["env"] = {**os.environ, **options.get("env", {}), "COLUMNS": str(columns)}
    given = {"capture_output": True, "text": True, "timeout": 240, **options}
    return subprocess.run([sys.executable, "-m", "rm_grpc_cli", *arguments], check=False, **given)


def write(path: Path, lines: Sequence[Any]) -> Path:
    """A file of lines, each text as it is or a value as JSON."""
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path
