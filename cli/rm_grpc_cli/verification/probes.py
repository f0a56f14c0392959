"""What is scored on both sides: the built-in probes or a file of the user's, and conversations whose scores are known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rm_grpc.json_lines import item_of_line
from rm_grpc_client import Item, RewardError
from rm_grpc_server.published import Expected, examples


@dataclass(frozen=True, slots=True)
class Probe:
    """A conversation to score.

    Attributes:
        name: its id in the file, else its line; no two have the same.
        line: as it stands in the file, which is what both sides read.
        item: the line as an item without an id, or why it is none.
    """

    name: str
    line: str
    item: Item | RewardError

    @property
    def group(self) -> str:
        """The siblings that it belongs to; empty for none."""
        return "" if isinstance(self.item, RewardError) else self.item.group


def built_in() -> list[Probe]:
    """The probes that come with this package."""
    text = resources.files("rm_grpc_cli.verification").joinpath("probes.jsonl").read_text(encoding="utf-8")
    return list(_probes(text.splitlines()))


def read_probes(file: Path) -> list[Probe]:
    """Probes of the user's own, a line each, as `rm-grpc score` reads them."""
    return list(_probes(file.read_text(encoding="utf-8", errors="surrogateescape").split("\n")))


def published(expected: Iterable[Expected]) -> list[Probe]:
    """The conversations of model cards."""
    lines = []
    for one in expected:
        example = examples()[one.name]
        told = {"id": named(one), "prompt": example.prompt, "response": example.response, "metadata": example.metadata}
        lines.append(json.dumps(told, ensure_ascii=False))
    return list(_probes(lines))


def named(expected: Expected) -> str:
    """The name of the probe that a known score belongs to."""
    return f"known:{expected.name}"


def _probes(lines: Iterable[str]) -> Iterator[Probe]:
    taken: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name = f"line {number}"
        try:
            item = item_of_line(line.encode(errors="surrogateescape"))
        except RewardError as error:
            yield Probe(name, line, error)
        else:
            name = item.id if item.id and item.id not in taken else name
            taken.add(name)
            yield Probe(name, line, Item("", item.input, group=item.group, metadata=item.metadata))
