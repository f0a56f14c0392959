"""`rm-grpc inspect`, run as a person runs it, and what it writes served by the same command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from services.command import command
from services.published import openbmb, process_lm_head, steerlm

MESSAGES = [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": "1+1=2"}]


@pytest.fixture(scope="module")
def ultra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """UltraRM: pickles, a head of its own name, and no chat template."""
    return openbmb.ULTRARM.save(tmp_path_factory.mktemp("inspect") / "ultra")


def test_it_says_what_it_is_and_why(ultra: Path) -> None:
    done = command("inspect", str(ultra))
    assert done.returncode == 0, done.stderr
    for told in (
        "LlamaRewardModel (llama)",
        "regression_head (linear, 1 output)",
        "kind: sequence_classification (certain)",
        "the class LlamaRewardModel with a regression_head",
        "1 of them BOS",
        "weights are pickles",
        "head: regression_head",
        "It can be served.",
    ):
        assert told in done.stdout
    assert max(len(line) for line in done.stdout.partition("\nSettings\n")[0].splitlines()) <= 80


@pytest.mark.slow
def test_what_it_writes_scores_as_published(ultra: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    settings = tmp_path / "settings.yaml"
    file.write_text(json.dumps({"messages": MESSAGES}) + "\n")
    written = command("inspect", str(ultra), "--yaml", str(settings))
    assert written.returncode == 0, written.stderr
    assert f"serve it with: rm-grpc serve --config {settings}" in written.stderr
    done = command("score", str(file), "-o", str(out), "--config", str(settings))
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["score"] == pytest.approx(openbmb.ULTRARM.reference(ultra, MESSAGES, {}).score, abs=1e-5)


def test_it_overwrites_nothing_unasked(ultra: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("mine")
    refused = command("inspect", str(ultra), "--yaml", str(settings))
    assert refused.returncode == 2
    assert "overwrite it with --force" in refused.stderr
    assert settings.read_text() == "mine"
    assert command("inspect", str(ultra), "--yaml", str(settings), "--force").returncode == 0
    assert yaml.safe_load(settings.read_text())["models"][0]["path"] == str(ultra)


def test_json_has_everything(ultra: Path) -> None:
    report = json.loads(command("inspect", str(ultra), "--json", "--weights").stdout)
    assert report["can_be_served"] is True
    assert report["deduction"]["preset"] == "openbmb/UltraRM-13b"
    assert yaml.safe_load(report["yaml"])["models"][0]["scorer"] == {
        "kind": "sequence_classification",
        "head": "regression_head",
    }
    assert {finding["topic"] for finding in report["findings"]} >= {"pickled"}


def test_what_is_left_to_decide_is_no_failure(tmp_path: Path) -> None:
    done = command("inspect", str(steerlm.NEMOTRON_4.save(tmp_path / "steer")))
    assert done.returncode == 0
    assert "It can be served once this is decided: scorer.weights." in done.stdout
    done = command("inspect", str(process_lm_head.FAMILIES[0].save(tmp_path / "shepherd")))
    assert done.returncode == 0
    assert "peiyi9979/math-shepherd-mistral-7b-prm" in done.stdout


def test_what_cannot_be_served_is_one(ultra: Path, tmp_path: Path) -> None:
    folder, settings = steerlm.NEMOTRON_4.save(tmp_path / "longrope"), tmp_path / "settings.yaml"
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rope_scaling": {"type": "longrope"}}))
    done = command("inspect", str(folder), "--yaml", str(settings))
    assert done.returncode == 1
    assert "It cannot be served: the architecture cannot be served" in " ".join(done.stdout.split())
    assert not settings.exists()
    gone = command("inspect", str(tmp_path / "nowhere"))
    assert gone.returncode == 1
    assert "is no folder here, and no hub id" in gone.stderr
    assert "Traceback" not in gone.stderr
