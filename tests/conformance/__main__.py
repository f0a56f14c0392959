"""Runs the cases: `PYTHONPATH=tests python -m conformance`, from the repository's root."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from conformance import cases, languages, matrix
from conformance.running import Bench, Outcome


def main() -> int:
    table = cases.load()
    parser = argparse.ArgumentParser(prog="conformance", description="Runs the table of cases against the clients.")
    parser.add_argument("--language", action="append", choices=[one.name for one in languages.LANGUAGES], help="again for more")
    parser.add_argument("--case", action="append", choices=[case.name for case in table.cases], help="again for more")
    parser.add_argument("--matrix", type=Path, help="file that receives the table of outcomes")
    given = parser.parse_args()
    chosen = [case for case in table.cases if not given.case or case.name in given.case]
    found: dict[str, dict[str, Outcome]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), table)
        try:
            for language in languages.LANGUAGES:
                if not given.language or language.name in given.language:
                    found[language.name] = _run(bench, language, chosen)
        finally:
            bench.close()
    if given.matrix:
        given.matrix.write_text(matrix.page(chosen, found), encoding="utf-8")
    every = [outcome.status for outcomes in found.values() for outcome in outcomes.values()]
    print(", ".join(f"{every.count(status)} {status}" for status in ("passed", "failed", "skipped")))
    return 1 if "failed" in every else 0


def _run(bench: Bench, language: languages.Language, chosen: list[cases.Case]) -> dict[str, Outcome]:
    if why := language.missing():
        print(f"{language.name}: skipped: {why}", flush=True)
        return {case.name: Outcome("skipped", why) for case in chosen}
    if why := language.build():
        print(f"{language.name}: failed: {why}", flush=True)
        return {case.name: Outcome("failed", "it could not be built") for case in chosen}
    outcomes = {}
    for case in chosen:
        outcomes[case.name] = outcome = bench.run(case, language)
        why = f": {outcome.why}" if outcome.why else ""
        print(f"{language.name} {case.name}: {outcome.status} in {outcome.seconds:.1f} s{why}", flush=True)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
