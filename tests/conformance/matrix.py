"""The outcomes as a page: each case with each language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from conformance import languages
from conformance.cases import Case
from conformance.running import Outcome

_COMMAND = "PYTHONPATH=tests python -m conformance --matrix docs/conformance.md"


def page(cases: Sequence[Case], found: Mapping[str, Mapping[str, Outcome]]) -> str:
    """The table in Markdown, with when and with what it was made."""
    today = datetime.now(timezone.utc).date()
    names = list(found)
    lines = [
        "# What the clients were seen to do",
        "",
        f"Every [case](../tests/conformance/cases.yaml) with every client, on {today}, by `{_COMMAND}`.",
        "",
        "| language | toolchain |",
        "|---|---|",
        *(f"| {name} | {_toolchain(name)} |" for name in names),
        "",
        f"| case | what it shows | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
        *(_row(case, [found[name][case.name] for name in names]) for case in cases),
    ]
    reasons = {f"- {name}: {outcome.why}" for name in names for outcome in found[name].values() if outcome.status == "skipped"}
    if reasons:
        lines += ["", "Skipped:", "", *sorted(reasons)]
    return "\n".join(lines) + "\n"


def _toolchain(name: str) -> str:
    language = languages.named(name)
    return language.missing() or language.toolchain()


def _row(case: Case, outcomes: Sequence[Outcome]) -> str:
    told = " ".join(case.shows.split())
    return f"| {case.name} | {told} | {' | '.join(outcome.status for outcome in outcomes)} |"
