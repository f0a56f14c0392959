"""A case at work: its steps, one after another, on a program and a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from conformance.cases import Step
from conformance.failures import CaseFailedError
from conformance.files import Files
from conformance.lines import generated, line_of
from conformance.matching import difference
from conformance.program import Program
from conformance.servers import Server

_STILL_SECONDS = 1.5
"""Without taking a line, until a program is thought to take no more."""


class Steps:
    """What each verb of the table does.

    Args:
        program: under test.
        server: that it talks to.
        files: that may be replaced.
        expand: puts values in the place of names.
    """

    def __init__(self, program: Program, server: Server, files: Files, expand: Callable[[Any], Any]) -> None:
        self._program = program
        self._server = server
        self._files = files
        self._expand = expand
        self._memory = 0.0
        self._owed: set[int] = set()
        self._verbs: dict[str, Callable[[Any, float], None]] = {
            "send": self._send,
            "generate": self._generate,
            "expect": self._expect,
            "expect_all": self._expect_all,
            "expect_each": self._expect_each,
            "silence": lambda seconds, _: self._program.quiet(seconds),
            "pause": lambda seconds, _: time.sleep(seconds),
            "server": lambda what, _: self._server.act(what),
            "replace": lambda pair, _: self._files.replace(pair["name"], pair["by"]),
            "reading": self._read_on,
            "taken": self._taken,
            "memory": self._memory_step,
            "finish": lambda _, __: self._program.finish(),
            "expect_end": self._expect_end,
        }

    def run(self, at: int, step: Step) -> None:
        """Does one step, of that number.

        Raises:
            CaseFailedError: the program did something else.
        """
        try:
            self._verbs[step.verb](self._expand(step.argument), step.within)
        except CaseFailedError as error:
            raise CaseFailedError(f"step {at} ({step.verb}): {error}") from error

    def _send(self, lines: list[str | Mapping[str, Any]], _: float) -> None:
        self._program.send([line_of(line) for line in lines])

    def _generate(self, given: Mapping[str, Any], _: float) -> None:
        first = given.get("first", 0)
        self._owed.update(range(first, first + given["count"]))
        self._program.send(generated(**given))

    def _expect(self, expected: Mapping[str, Any], within: float) -> None:
        if told := difference(expected, line := self._program.next_line(within)):
            raise CaseFailedError(f"{told}, in {line}{self._program.complaint()}")

    def _expect_all(self, expected: list[Mapping[str, Any]], within: float) -> None:
        end = time.monotonic() + within
        missing = list(expected)
        while missing:
            line = self._program.next_line(max(0.1, end - time.monotonic()))
            found = next((one for one in missing if not difference(one, line)), None)
            if found is None:
                told = "; ".join(difference(one, line) for one in missing[:5])
                raise CaseFailedError(f"{line} is none of the {len(missing)} lines that are still expected: {told}")
            missing.remove(found)

    def _expect_each(self, given: Mapping[str, Any], within: float) -> None:
        end = time.monotonic() + within
        for missing in range(given["count"], 0, -1):
            try:
                line = self._program.next_line(max(0.1, end - time.monotonic()))
            except CaseFailedError as error:
                raise CaseFailedError(f"{missing} results of {given['count']} are missing: {error}") from error
            number = int(line["id"]) if str(line.get("id", "")).isdigit() else -1
            if number not in self._owed:
                raise CaseFailedError(f"a result that is not owed, or came before: {line}")
            self._owed.remove(number)
            if told := difference({"index": number, "score": number, **given.get("with", {})}, line):
                raise CaseFailedError(f"{told}, in {line}")

    def _read_on(self, reading: bool, _: float) -> None:
        if reading:
            self._program.reading.set()
        else:
            self._program.reading.clear()

    def _taken(self, given: Mapping[str, int], _: float) -> None:
        before = -1
        while before != self._program.taken <= given["at_most"]:
            before = self._program.taken
            time.sleep(_STILL_SECONDS)
        if self._program.taken > given["at_most"]:
            raise CaseFailedError(f"it has taken {self._program.taken} lines, and {given['at_most']} are expected at most")

    def _memory_step(self, given: Mapping[str, float] | str, _: float) -> None:
        peak = self._program.peak_megabytes()
        if given == "remember":
            self._memory = peak
        elif isinstance(given, Mapping) and peak - self._memory > given["most_megabytes_more"]:
            raise CaseFailedError(f"its memory grew from {self._memory:.0f} MB to {peak:.0f} MB")

    def _expect_end(self, given: Mapping[str, Any], within: float) -> None:
        if "stream_error" in given:
            self._expect({"stream_error": given["stream_error"]}, within)
        status = self._program.end(within)
        if status != given["status"]:
            raise CaseFailedError(
                f"it ended with status {status}, and {given['status']} is expected{self._program.complaint()}"
            )
        if given.get("says") and given["says"] not in self._program.stderr().decode(errors="replace"):
            raise CaseFailedError(f"standard error does not say {given['says']!r}{self._program.complaint()}")
