"""The command line, run as a person runs it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from services import command as command_line
from services.command import write
from services.server import ServerProcess, ServerThread

command = partial(command_line.command, columns=None)
GOOD = {"messages": [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": "1+1=2"}]}
LINES: list[Any] = [
    {**GOOD, "id": "first"},
    GOOD["messages"],
    {"prompt": "What is 1+1?", "response": "1+1=2"},
    {"text": "<|begin_of_text|>12"},
    {"messages": []},
    {"colour": "red"},
    "not json at all",
    {"prompt": [{"role": "user", "content": "hi"}], "response": "yo", "metadata": {"reference": "x"}},
]
ERRORS = {4: "NO_MESSAGES", 5: "INVALID_REQUEST", 6: "INVALID_REQUEST"}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def at(server: ServerThread) -> list[str]:
    return ["--address", server.address, "--model", "arithmetic-logit"]


def test_score_writes_one_line_for_each_line(tmp_path: Path, at: list[str]) -> None:
    file, out = write(tmp_path / "in.jsonl", LINES), tmp_path / "out.jsonl"
    done = command("score", str(file), "-o", str(out), *at)
    assert done.returncode == 0, done.stderr
    assert "5 scored, 3 errors, 0 left" in done.stderr
    written = read(out)
    assert [line["line"] for line in written] == list(range(len(LINES)))
    for number, line in enumerate(written):
        assert ("score" in line) is (number not in ERRORS)
        assert line.get("error", {}).get("reason") == ERRORS.get(number)
    assert written[0]["id"] == "first"
    assert written[0]["score"] == pytest.approx(written[1]["score"], abs=1e-5)
    assert written[0]["score"] == pytest.approx(written[2]["score"], abs=1e-5)


def test_score_goes_on_where_it_was_cut_off(tmp_path: Path, at: list[str]) -> None:
    file, out = write(tmp_path / "in.jsonl", LINES), tmp_path / "out.jsonl"
    command("score", str(file), "-o", str(out), *at)
    whole = out.read_text()
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:3]) + lines[3][:10])
    done = command("score", str(file), "-o", str(out), *at)
    assert "has 3 of 8 lines; going on from there" in done.stderr
    assert [line["line"] for line in read(out)] == list(range(len(LINES)))
    assert [line.get("score") for line in read(out)] == pytest.approx(
        [json.loads(line).get("score") for line in lines], abs=1e-5
    )
    assert "nothing is left to score" in command("score", str(file), "-o", str(out), *at).stderr


def test_score_never_continues_another_files_output(tmp_path: Path, at: list[str]) -> None:
    file, out = write(tmp_path / "in.jsonl", LINES), tmp_path / "out.jsonl"
    command("score", str(file), "-o", str(out), *at)
    before = out.read_text()
    other = write(tmp_path / "other.jsonl", list(reversed(LINES)))
    done = command("score", str(other), "-o", str(out), *at)
    assert done.returncode != 0
    assert "line 0 is not the result of that line" in done.stderr
    assert out.read_text() == before


@pytest.mark.parametrize("notes", ["one line without end", "two lines\nwithout end", '{"line": 0, "input": "x"}\n'])
def test_score_never_touches_a_file_that_is_not_its_own(tmp_path: Path, at: list[str], notes: str) -> None:
    file, out = write(tmp_path / "in.jsonl", LINES), tmp_path / "notes.txt"
    out.write_text(notes)
    done = command("score", str(file), "-o", str(out), *at)
    assert done.returncode != 0
    assert "name another output" in done.stderr
    assert out.read_text() == notes
    same = command("score", str(file), "-o", str(file), *at)
    assert "would overwrite the input" in same.stderr
    assert len(file.read_text().splitlines()) == len(LINES)


def test_score_never_mixes_two_models(tmp_path: Path, at: list[str]) -> None:
    file, out = write(tmp_path / "in.jsonl", LINES), tmp_path / "out.jsonl"
    command("score", str(file), "-o", str(out), *at)
    out.write_text("".join(out.read_text().splitlines(keepends=True)[:2]))
    done = command("score", str(file), "-o", str(out), *at[:-1], "arithmetic-classifier")
    assert done.returncode != 0
    assert "holds scores of the model with digest" in done.stderr


def test_odd_lines_are_errors_of_their_own(tmp_path: Path, at: list[str]) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    odd = [
        b'{"prompt": 5, "response": "x"}',
        b'{"messages": [{"role": "assistant", "tool_calls": 5}]}',
        b"[" * 100_000,
        b'{"text": "x", "group": "\\ud800"}',
        b'{"text": "\xff"}',
        b'{"text": "x", "id": {}}',
        b'{"text": "12", "id": "a\\u2028\\ud800"}',
        b'{"text": "12", "id": null}',
    ]
    file.write_bytes(b"\n".join(odd) + b"\n")
    done = command("score", str(file), "-o", str(out), *at)
    assert done.returncode == 0, done.stderr
    written = read(out)
    assert ["error" in line for line in written] == [True] * 6 + [False] * 2
    assert written[6]["id"] == "a\u2028\ud800"
    assert "id" not in written[7]
    assert "nothing is left" in command("score", str(file), "-o", str(out), *at).stderr


@pytest.mark.slow
def test_score_with_a_server_of_its_own_and_ctrl_c(tmp_path: Path) -> None:
    count = 30_000
    file, out = write(tmp_path / "in.jsonl", [{**GOOD, "id": str(at)} for at in range(count)]), tmp_path / "out.jsonl"
    arguments = ["score", str(file), "-o", str(out), "--model", "embedded:arithmetic-logit"]
    process = subprocess.Popen([sys.executable, "-m", "rm_grpc_cli", *arguments], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not out.exists() or out.stat().st_size < 2000:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    written = read(out)
    assert 0 < len(written) < count
    assert all("score" in line for line in written), "what was in flight was finished, not thrown away"
    assert [line["line"] for line in written] == list(range(len(written)))
    assert f"{len(written)} scored, 0 errors, {count - len(written)} left" in told


def test_score_needs_to_know_whom_to_ask(tmp_path: Path) -> None:
    done = command("score", str(write(tmp_path / "in.jsonl", LINES)), "-o", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "say whom to ask" in done.stderr


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    done = command("score", str(write(tmp_path / "in.jsonl", LINES)), "-o", str(tmp_path / "out"), "--model", "/nowhere")
    assert done.returncode == 1
    assert "/nowhere: is no folder here, and no hub id" in done.stderr
    assert "Traceback" not in done.stderr


def test_models(server: ServerThread) -> None:
    shown = command("models", "--address", server.address, env={**os.environ, "COLUMNS": "160"})
    assert shown.returncode == 0, shown.stderr
    for told in ("arithmetic-classifier", "sequence_classification", "LlamaForCausalLM", "no judge of anything else"):
        assert told in shown.stdout
    models = json.loads(command("models", "--address", server.address, "--json").stdout)
    assert models[1]["name"] == "arithmetic-logit"
    gone = command("models", "--address", "127.0.0.1:1")
    assert gone.returncode == 1
    assert gone.stderr.startswith("rm-grpc: UnavailableError")


def test_tokenize(tmp_path: Path, at: list[str]) -> None:
    shown = command("tokenize", "-", *at, input=json.dumps(GOOD) + "\n" + json.dumps({"text": "a <|im_start|>"}) + "\n")
    assert shown.returncode == 0, shown.stderr
    assert "<|start_header_id|>assistant<|end_header_id|>\n\n1+1=2<|eot_id|>" in shown.stdout
    assert "1 BOS" in shown.stdout
    assert "would be refused: FOREIGN_CHAT_MARKERS" in shown.stdout


@pytest.mark.slow
def test_demo_ends_by_itself() -> None:
    done = command("demo", env={**os.environ, "COLUMNS": "160"})
    assert done.returncode == 0, done.stderr
    assert "What is 1+1?" in done.stdout
    for model in ("arithmetic-classifier", "arithmetic-logit"):
        assert f"{model}: the right answer above the wrong one in" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["sigterm", "ctrl-c", "stdin"])
def test_serve_drains(tmp_path: Path, ends: str) -> None:
    server = ServerProcess(tmp_path, "--until-stdin-closes")
    server.wait()
    assert server.process.stdin is not None
    if ends == "stdin":
        server.process.stdin.close()
        server.process.stdin = None
        server.process.wait(60)
    log = server.stop(signal.SIGINT if ends == "ctrl-c" else signal.SIGTERM)
    assert server.process.returncode == 0
    assert "packed scores equal the one-at-a-time reference" in log
    assert "draining" in log
    assert "stopped" in log


@pytest.mark.slow
def test_serve_ends_at_once_while_it_loads(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--log-level=debug")
    assert server.process.stderr is not None
    while "loading" not in server.process.stderr.readline():
        assert server.process.poll() is None
    start = time.monotonic()
    log = server.stop(signal.SIGINT)
    assert time.monotonic() - start < 20
    assert server.process.returncode == 0
    assert "stopped before a model was loaded" in log


def test_a_file_cannot_say_when_a_parent_ends(tmp_path: Path) -> None:
    with (tmp_path / "empty").open("wb+") as stdin:
        done = command("serve", "--until-stdin-closes", stdin=stdin)
    assert done.returncode == 1
    assert "standard input must be a pipe" in done.stderr


def test_two_servers_cannot_share_a_port(server: ServerThread) -> None:
    done = command("serve", f"--listen={server.address}", "--model=embedded:arithmetic-logit")
    assert done.returncode == 1
    assert "cannot be taken" in done.stderr


def hub_cache(home: Path, model_id: str, folder: Path) -> str:
    """Lays a folder out as the hub's cache does, and gives its commit."""
    commit = "c" * 40
    root = home / "hub" / f"models--{model_id.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    for path in folder.iterdir():
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(blob)
    return commit


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_id", "head", "bos"),
    [
        ("Skywork/Skywork-Reward-Llama-3.1-8B", "sequence_classification", 2),
        ("nvidia/Llama-3.1-Nemotron-70B-Reward-HF", "causal_lm", 1),
    ],
)
def test_a_hub_id_with_a_preset_needs_nothing_else(
    tmp_path: Path, checkpoint_folder: dict[tuple[str, str], Path], model_id: str, head: str, bos: int
) -> None:
    """The real loading path, over tiny weights: no hub can be reached from the tests."""
    folder = tmp_path / "tiny"
    shutil.copytree(checkpoint_folder["llama", head], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    commit = hub_cache(tmp_path / "home", model_id, folder)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    server = ServerProcess(tmp_path, f"--model={model_id}", env=environment)
    try:
        address = server.wait()
        [model] = json.loads(command("models", "--address", address, "--json").stdout)
        shown = command("tokenize", "-", "--address", address, input=json.dumps(GOOD) + "\n").stdout
    finally:
        server.stop()
    assert (model["source"], model["revision"], model["name"]) == (model_id, commit, model_id.partition("/")[2])
    assert model["settings_source"].startswith(f"preset {model_id} (model card")
    assert f"{bos} BOS" in shown
