"""The table of cases, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conformance.matching import CaseLoader

FILE = Path(__file__).parent / "cases.yaml"
_PATIENCE = 10.0
"""Seconds that an expectation may take where its step does not say."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a case: what is done or expected, with what, and within how many seconds."""

    verb: str
    argument: Any
    within: float

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Step:
        """A step of the table."""
        given = dict(raw)
        within = float(given.pop("within", _PATIENCE))
        [(verb, argument)] = given.items()
        return cls(verb, argument, within)


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the table; its header says what each key is."""

    name: str
    shows: str
    server: str
    steps: tuple[Step, ...]
    flags: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None
    only: tuple[str, ...] = ()
    program: str = ""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Case:
        """A case of the table."""
        given = dict(raw)
        return cls(
            steps=tuple(Step.of(step) for step in given.pop("steps")),
            flags=tuple(str(flag) for flag in given.pop("flags", ())),
            only=tuple(given.pop("only", ())),
            **given,
        )


@dataclass(frozen=True, slots=True)
class Table:
    """All cases, and the settings of the servers that they name."""

    servers: Mapping[str, Mapping[str, Any]]
    cases: tuple[Case, ...]


def load() -> Table:
    """The table of this folder.

    Raises:
        ValueError: a name is there twice, or a server is not.
    """
    raw = yaml.load(FILE.read_text(encoding="utf-8"), CaseLoader)
    cases = tuple(Case.of(case) for case in raw["cases"])
    names = [case.name for case in cases]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"cases of the same name: {sorted(twice)}")
    if unknown := {case.server for case in cases} - set(raw["servers"]) - {"none"}:
        raise ValueError(f"no such servers: {sorted(unknown)}")
    return Table(raw["servers"], cases)
