"""The examples and the README's lines run as they stand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from services.models import LocalModel
from services.server import ServerThread

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "told"), [("stream_rollouts.py", r"\d+\+\d+=\d+  [+-]\d"), ("reward_environment.py", r"masked: .*<\|eot_id\|>")]
)
def test_examples(server: ServerThread, name: str, told: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / name), "--address", server.address]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(told, done.stdout), done.stdout


def test_the_readme(server: ServerThread, capsys: pytest.CaptureFixture[str]) -> None:
    program, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(program.strip().splitlines()) <= 6
    program = program.replace("127.0.0.1:50051", server.address).replace("Skywork-Reward-Llama-3.1-8B", "arithmetic-logit")

    def rollouts() -> Iterator[list[dict[str, str]]]:
        for answer in ("1+1=2", "1+1=3"):
            yield [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": answer}]

    exec(program, {"rollouts": rollouts})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_page_of_http(classifier: LocalModel, logit: LocalModel, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [lines] = re.findall(r"```sh\n(printf .*?)```", page, re.DOTALL)
    with ServerThread([classifier, logit], http="127.0.0.1:0") as running:
        exec(program.replace("127.0.0.1:8000", running.http_address), {})
        shell = ["bash", "-c", lines.replace("127.0.0.1:8000", running.http_address)]
        done = subprocess.run(shell, check=True, capture_output=True, text=True, timeout=60)
    [told] = re.findall(r"# (reward:\d+\.\d+)", program)
    assert capsys.readouterr().out.startswith(told)
    assert [min(json.loads(line)) for line in done.stdout.splitlines()] == ["error", "id"]


@pytest.mark.slow
def test_the_reinforcement_learning_run(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples/rl_demo/train.py"), "--steps=6", "--lessons=60", f"--out={tmp_path}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    run = json.loads((tmp_path / "run.json").read_text())
    assert all(len(values) == 6 for values in run.values())
    assert all(0 < hidden <= busy for hidden, busy in zip(run["hidden_seconds"], run["scoring_seconds"], strict=True))
    assert (tmp_path / "reward.png").stat().st_size > 10_000
    assert re.search(r"scoring: .* while the policy generated", done.stdout)
