"""What a benchmark found, as JSON with all slices and as a Markdown table, beside what it was measured with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import rm_grpc_server

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the same columns, and a sentence that says what they are."""

    title: str
    rows: Sequence[Row]
    note: str = ""


@dataclass(slots=True)
class Report:
    """A benchmark's findings.

    Attributes:
        name: of the benchmark, and of its files.
        tables: what a reader looks at.
        slices: every single measurement.
        settings: what the servers were given.
        others: shares of the machine that went to others during the run.
        device: what computed, where that is not the CPU as it is.
    """

    name: str
    tables: list[Table] = field(default_factory=list)
    slices: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)
    device: str = ""

    def write(self, folder: Path) -> None:
        """Writes NAME.json and NAME.md into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        origin = _origin()
        document = {
            "name": self.name,
            **origin,
            "device": self.device,
            "settings": self.settings,
            "others": self.others,
            "tables": [asdict(table) for table in self.tables],
            "slices": self.slices,
        }
        (folder / f"{self.name}.json").write_text(json.dumps(document, indent=1, default=str) + "\n")
        (folder / f"{self.name}.md").write_text(self._markdown(origin))

    def _markdown(self, origin: Mapping[str, Any]) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in origin["versions"].items())
        head = [
            f"# {self.name}",
            "",
            f"`{origin['command']}`",
            "",
            f"{origin['date']}; {origin['cpu']}, {origin['cores']} cores; {versions}.",
        ]
        if self.device:
            head += ["", f"Device: {self.device}."]
        if self.others:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in self.others.items())
            head += ["", f"Of the machine's time during the run: {shares}."]
        if self.settings:
            head += ["", "Server settings: " + "; ".join(f"{name}: `{told}`" for name, told in self.settings.items()) + "."]
        return "\n".join(head + [line for table in self.tables for line in _lines(table)]) + "\n"


def _lines(table: Table) -> list[str]:
    columns = list(dict.fromkeys(column for row in table.rows for column in row))
    rows = ["| " + " | ".join(shown(row.get(column)) for column in columns) + " |" for row in table.rows]
    note = ["", table.note] if table.note else []
    return ["", f"## {table.title}", *note, "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *rows]


def shown(value: object) -> str:
    """A value as a table shows it: three digits that mean something."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of the ratios of paired measurements."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": median(each), "least": min(each), "greatest": max(each)}


def verdict(found: float, target: float) -> str:
    """Whether a target was met."""
    return f"{'met' if found >= target else 'missed'} (at least {target:g})"


def _origin() -> dict[str, Any]:
    packages = ("torch", "transformers", "grpcio", "protobuf")
    return {
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {
            "Python": platform.python_version(),
            **{name: _version(name) for name in packages},
            "rm-grpc": _commit(Path(rm_grpc_server.__file__).parent),
        },
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit(folder: Path) -> str:
    """The commit that a folder is of, or unknown where there is no repository, as in a copy of the files."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = " with changes" if git("status", "--porcelain", "--untracked-files=no", ":/") else ""
        return git("rev-parse", "--short=12", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
