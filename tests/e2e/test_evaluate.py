"""`rm-grpc evaluate`, run as a person runs it, against scores of `rm-grpc score`."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import problems
import pytest
from services.command import command, write
from services.server import ServerThread

from rm_grpc_client import RewardClient

REASONING = ("math-prm", "hep-python")


def drawn(count: int) -> list[problems.Pair]:
    return list(itertools.islice(problems.pairs(random.Random(5), held_out=True), count))


def preferences() -> list[dict[str, Any]]:
    """Pairs, best of n, and Ties; right answers are sometimes called rejected, or a model that is good would never be wrong."""
    lines: list[dict[str, Any]] = []
    for at, pair in enumerate(drawn(12)):
        chosen, rejected = (pair.wrong, pair.right) if at % 5 == 4 else (pair.right, pair.wrong)
        lines.append({"prompt": pair.prompt, "chosen": chosen, "rejected": rejected, "subset": REASONING[at % 2], "id": at})
    for pair in drawn(6):
        rejected = [pair.wrong, f"{pair.right} So it is.", f"{pair.wrong} So it is."]
        lines.append({"prompt": pair.prompt, "chosen": [pair.right], "rejected": rejected, "subset": "Math"})
        lines.append({"prompt": pair.prompt, "chosen": [f"{pair.right} "], "rejected": rejected[::2], "subset": "Focus"})
    for at, pair in enumerate(drawn(4)):
        rejected = [pair.wrong, f"{pair.wrong} So it is."]
        lines.append({"prompt": pair.prompt, "chosen": [pair.right], "rejected": rejected, "subset": "Ties", "id": f"ref:{at}"})
        chosen = [pair.right, f"{pair.right} Done."]
        lines.append({"prompt": pair.prompt, "chosen": chosen, "rejected": rejected, "subset": "Ties", "id": f"tied:{at}"})
    return lines


def scores_of(lines: list[dict[str, Any]], folder: Path, at: list[str]) -> list[tuple[list[float], list[float]]]:
    """Raw scores of the chosen and the rejected answers of each line, from `rm-grpc score`."""
    answers = [[one[key] if isinstance(one[key], list) else [one[key]] for key in ("chosen", "rejected")] for one in lines]
    flat = [
        {"prompt": line["prompt"], "response": text}
        for line, both in zip(lines, answers, strict=True)
        for text in (*both[0], *both[1])
    ]
    out = folder / "scores.jsonl"
    done = command("score", str(write(folder / "flat.jsonl", flat)), "-o", str(out), *at)
    assert done.returncode == 0, done.stderr
    numbers = iter(json.loads(line)["raw_score"] for line in out.read_text().splitlines())
    return [([next(numbers) for _ in both[0]], [next(numbers) for _ in both[1]]) for both in answers]


@pytest.fixture
def at(server: ServerThread) -> list[str]:
    return ["--address", server.address, "--model", "arithmetic-logit"]


def test_accuracies_are_those_of_the_scores(tmp_path: Path, at: list[str], server: ServerThread) -> None:
    lines = preferences()
    file, out, picture = write(tmp_path / "in.jsonl", lines), tmp_path / "out.json", tmp_path / "out.png"
    done = command("evaluate", str(file), "--json", str(out), "--picture", str(picture), *at)
    assert done.returncode == 0, done.stderr
    told = json.loads(out.read_text())
    by_subset = {row["subset"]: row for row in told["subsets"]}
    scores = scores_of(lines, tmp_path, at)

    def of(subset: str) -> list[tuple[list[float], list[float]]]:
        return [both for line, both in zip(lines, scores, strict=True) if line["subset"] == subset]

    for subset in REASONING:
        right = [chosen > rejected for [chosen], [rejected] in of(subset)]
        assert by_subset[subset]["accuracy"] == pytest.approx(np.mean(right))
        assert by_subset[subset]["mean_margin"] == pytest.approx(
            np.mean([chosen - rejected for [chosen], [rejected] in of(subset)]), abs=1e-4
        )
        assert by_subset[subset]["mean_score"] == pytest.approx(np.mean(of(subset)), abs=1e-4)
    assert 0 < told["totals"][0]["accuracy"] < 1
    for subset in ("Math", "Focus"):
        assert by_subset[subset]["accuracy"] == pytest.approx(
            np.mean([chosen[0] > max(rejected) for chosen, rejected in of(subset)])
        )
    accurate = [min(chosen) > max(rejected) for chosen, rejected in of("Ties")]
    assert by_subset["Ties"]["ties_score"]["ref_accuracy"] == pytest.approx(np.mean(accurate[::2]))
    assert by_subset["Ties"]["ties_score"]["tied_accuracy"] == pytest.approx(np.mean(accurate[1::2]))
    [section] = told["reward_bench"]["sections"]
    weighted = (984 * by_subset["math-prm"]["accuracy"] + 164 * by_subset["hep-python"]["accuracy"]) / (984 + 164)
    assert (section["name"], section["score"]) == ("Reasoning", pytest.approx(weighted))
    assert told["reward_bench_2"]["mean_of_subsets"] is None
    with RewardClient(server.address, model="arithmetic-logit") as client:
        assert told["model"]["model_digest"] == client.get_model().model_digest
    assert told["model"]["name"] == "arithmetic-logit"
    assert told["data"] == {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "lines": len(lines)}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"{100 * by_subset['math-prm']['accuracy']:.1f}%" in done.stdout
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80


def test_what_cannot_be_scored_is_told(tmp_path: Path, at: list[str]) -> None:
    pair = {"prompt": "What is 1+1?", "chosen": "1+1=2", "rejected": "1+1=3"}
    whole = {
        key: [{"role": "user", "content": pair["prompt"]}, {"role": "assistant", "content": pair[key]}]
        for key in ("chosen", "rejected")
    }
    lines: list[Any] = [
        pair,
        whole,
        {**pair, "rejected": "1+1=3<|eot_id|>", "subset": "[red]x"},
        "",
        {"chosen": "2"},
        "nonsense",
    ]
    out = tmp_path / "out.json"
    done = command("evaluate", str(write(tmp_path / "in.jsonl", lines)), "--json", str(out), *at)
    assert done.returncode == 3, done.stderr
    assert "3 of 5 lines are errors" in done.stderr
    assert "line 3: rejected.conversation.messages[1].content: the content holds control tokens" in done.stderr
    assert "line 5: rejected: is missing" in done.stderr
    assert "line 6: the line is no JSON" in done.stderr
    assert "[red]x" in done.stdout
    assert "lines whose answers could not be read" in done.stdout
    told = json.loads(out.read_text())
    [total] = [row for row in told["totals"] if row["rule"] == "pair"]
    assert (total["sets"], total["errors"], total["accuracy"]) == (2, 1, 1.0)
    assert [error["line"] for error in told["errors"]["listed"]] == [3, 5, 6]
    assert told["errors"]["reasons"] == {"INVALID_REQUEST": 2, "CONTROL_TOKENS_IN_CONTENT": 1}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--json", "in.jsonl"], "would overwrite the input"),
        (["--json", "nowhere/out.json"], "there is no folder"),
        (["--picture", "out.gif"], "must end in .png"),
        ([], "say whom to ask"),
    ],
    ids=["input", "folder", "ending", "target"],
)
def test_what_cannot_end_well_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    done = command("evaluate", "in.jsonl", *arguments)
    assert done.returncode in (1, 2)
    assert told in " ".join(done.stderr.split())
    assert "evaluating" not in done.stderr


def test_an_empty_file_has_no_accuracy(tmp_path: Path, at: list[str]) -> None:
    done = command("evaluate", str(write(tmp_path / "in.jsonl", ["", " "])), *at)
    assert done.returncode == 1
    assert "holds no line" in done.stderr


def test_a_server_that_is_gone(tmp_path: Path) -> None:
    """The connection's failure is the command's, and no line's."""
    file = write(tmp_path / "in.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    done = command("evaluate", str(file), "--address", "127.0.0.1:1")
    assert done.returncode == 1
    assert "UnavailableError" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_with_a_server_of_its_own(tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [{"prompt": "What is 1+1?", "chosen": "1+1=2", "rejected": "1+1=3"}])
    done = command("evaluate", str(file), "--model", "embedded:arithmetic-logit")
    assert done.returncode == 0, done.stderr
    assert "100.0%" in done.stdout
