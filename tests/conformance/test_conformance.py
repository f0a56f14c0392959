"""Each client that can be built here: every case, its own tests, and its generated code against the contract of today."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from services.models import LocalModel
from services.server import ServerThread

from conformance import cases
from conformance.cases import Case
from conformance.languages import LANGUAGES, ROOT, Language
from conformance.running import Bench

TABLE = cases.load()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Servers that the cases share."""
    bench = Bench(tmp_path_factory.mktemp("conformance"), TABLE)
    yield bench
    bench.close()


@pytest.fixture(scope="session", params=LANGUAGES, ids=lambda language: language.name)
def language(request: pytest.FixtureRequest) -> Language:
    """A client, built."""
    chosen: Language = request.param
    if why := chosen.missing():
        pytest.skip(why)
    assert not chosen.build()
    return chosen


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("case", TABLE.cases, ids=lambda case: case.name)
def test_case(language: Language, case: Case, bench: Bench) -> None:
    outcome = bench.run(case, language)
    if outcome.status == "skipped":
        pytest.skip(outcome.why)
    assert outcome.status == "passed", outcome.why


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("target", ["check-gen", "test"])
@pytest.mark.parametrize("language", [one for one in LANGUAGES if one.name != "python"], ids=lambda one: one.name)
def test_target(language: Language, target: str) -> None:
    if why := language.missing():
        pytest.skip(why)
    done = subprocess.run(
        ["make", "-C", f"client/{language.name}", target], cwd=ROOT, capture_output=True, text=True, timeout=1400, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_page_in_a_browser(classifier: LocalModel, logit: LocalModel) -> None:
    """The example page of the TypeScript client, in a headless Chromium, against a real server."""
    [typescript] = [one for one in LANGUAGES if one.name == "typescript"]
    if why := typescript.missing() or ("" if shutil.which("chromium") else "needs chromium"):
        pytest.skip(why)
    with ServerThread([classifier, logit], http="127.0.0.1:0", http_origins="*") as server:
        done = subprocess.run(
            ["make", "-C", "client/typescript", "test-page"],
            cwd=ROOT,
            env={**os.environ, "RM_GRPC_HTTP": server.http_address},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "skipped 0" in done.stdout
