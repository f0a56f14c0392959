"""One case with one language: skipped, passed or failed."""

from __future__ import annotations

import os
import string
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.cases import Case, Table
from conformance.failures import CaseFailedError
from conformance.files import Files
from conformance.languages import ROOT, Language
from conformance.program import Program
from conformance.servers import Servers
from conformance.steps import Steps

_NOT_FOR_PROGRAMS = ("RM_GRPC_", "GRPC_", "PYTHONUNBUFFERED")
"""Beginnings of variables that would change what a program does."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case: passed, failed or skipped, why, and how many seconds it took."""

    status: str
    why: str = ""
    seconds: float = 0.0


class Bench:
    """Where cases are run: files, and servers that last.

    Args:
        folder: for whatever a run writes.
        table: the cases.
    """

    def __init__(self, folder: Path, table: Table) -> None:
        self._files = Files(folder / "files")
        self._servers = Servers(folder / "servers", table.servers, self._expander({}))

    def close(self) -> None:
        """Ends the servers."""
        self._servers.close()

    def run(self, case: Case, language: Language) -> Outcome:
        """One case, with a client that is built."""
        if case.only and language.name not in case.only:
            return Outcome("skipped", f"for {', '.join(case.only)} only")
        start = time.monotonic()
        as_it_was = False
        try:
            self._run(case, language)
            as_it_was = True
        except CaseFailedError as error:
            return Outcome("failed", str(error), time.monotonic() - start)
        finally:
            self._servers.give_back(case.server, as_it_was=as_it_was)
        return Outcome("passed", "", time.monotonic() - start)

    def _run(self, case: Case, language: Language) -> None:
        server = self._servers.get(case.server)
        expand = self._expander({"ADDRESS": server.address, "PORT": server.address.rpartition(":")[2]})
        driver = (sys.executable, f"tests/conformance/{case.program}") if case.program else language.driver
        address = () if "--address" in case.flags else ("--address", server.address)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_PROGRAMS)}
        env = {**clean, **language.env, **expand(case.env or {})}
        program = Program([*driver, *address, *expand(list(case.flags))], cwd=ROOT, env=env)
        try:
            steps = Steps(program, server, self._files, expand)
            for at, step in enumerate(case.steps, start=1):
                steps.run(at, step)
            self._refuse_tokens(program)
        finally:
            program.kill()

    def _refuse_tokens(self, program: Program) -> None:
        said = program.stdout() + program.stderr()
        for name, token in self._files.tokens.items():
            if token.encode() in said:
                raise CaseFailedError(f"the token {name!r} stands in its output")

    def _expander(self, values: Mapping[str, str]) -> Callable[[Any], Any]:
        names = {"FILES": str(self._files.folder), **values}
        names |= {f"TOKEN_{name.upper()}": token for name, token in self._files.tokens.items()}

        def expand(given: Any) -> Any:
            if isinstance(given, str):
                return string.Template(given).safe_substitute(names)
            if isinstance(given, list):
                return [expand(one) for one in given]
            if isinstance(given, dict):
                return {key: expand(value) for key, value in given.items()}
            return given

        return expand
