"""Every adapter's example, run as a user runs it against a real server: the trainer's interface gets the server's numbers."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from services.server import ServerThread

from rm_grpc_client import RewardClient

ROOT = Path(__file__).parents[2]
INTERFACES = ROOT / "tests" / "services" / "trainers"
MODEL = "arithmetic-logit"


def run(name: str, address: str, home: Path) -> Any:
    """What the example prints last, as JSON."""
    env = {
        **os.environ,
        "PYTHONPATH": str(INTERFACES),
        "HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, str(ROOT / "examples" / "trainers" / name), "--address", address, "--model", MODEL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=env, cwd=home)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def expected(server: ServerThread) -> list[float]:
    """The scores of the right and of the wrong answer."""
    question = {"role": "user", "content": "What is 7+5?"}
    with RewardClient(server.address, model=MODEL) as client:
        scores = client.score([[question, {"role": "assistant", "content": answer}] for answer in ("7+5=12", "7+5=13")])
    assert scores[0].score > scores[1].score
    return [score.score for score in scores]


def close(found: Any, expected: Any) -> bool:
    return bool(found == pytest.approx(expected, abs=1e-5))


@pytest.mark.slow
def test_trl(server: ServerThread, tmp_path: Path) -> None:
    steps = run("trl_grpo.py", server.address, tmp_path)
    assert len(steps) == 2
    for step in steps:
        assert math.isfinite(step["rewards/rm_grpc/mean"])
        assert step["rm_grpc/count"] == 4
        assert step["rm_grpc/error_rate"] == 0
        assert step["rm_grpc/score/mean"] == pytest.approx(step["rewards/rm_grpc/mean"], abs=1e-4)


@pytest.mark.slow
def test_verl(server: ServerThread, tmp_path: Path, expected: list[float]) -> None:
    found = run("verl_reward.py", server.address, tmp_path)
    for name in ("compute_score", "RewardManager"):
        assert close(found[name]["reward_score"], expected[0])
        assert close(found[name]["reward_extra_info"]["score"], expected[0])


@pytest.mark.slow
def test_verifiers(server: ServerThread, tmp_path: Path, expected: list[float]) -> None:
    found = run("verifiers_task.py", server.address, tmp_path)
    assert list(found) == ["rm_grpc"]
    assert close(found["rm_grpc"], expected[0])


@pytest.mark.slow
def test_skyrl(server: ServerThread, tmp_path: Path, expected: list[float]) -> None:
    assert close(run("skyrl_env.py", server.address, tmp_path), expected)


@pytest.mark.slow
def test_areal(server: ServerThread, tmp_path: Path, expected: list[float]) -> None:
    with_messages, without = run("areal_reward.py", server.address, tmp_path)
    assert close(with_messages, expected)
    assert close(without, expected)


@pytest.mark.slow
def test_ms_swift(server: ServerThread, tmp_path: Path, expected: list[float]) -> None:
    first, second = run("ms_swift_plugin.py", server.address, tmp_path)
    assert close(first, expected)
    assert close(second, expected)


@pytest.mark.slow
def test_openrlhf(server: ServerThread, tmp_path: Path, expected: list[float]) -> None:
    alone, cut = run("openrlhf_reward.py", server.address, tmp_path)
    assert close(alone, expected)
    assert close(cut, expected)


@pytest.mark.slow
def test_slime(server: ServerThread, tmp_path: Path, expected: list[float]) -> None:
    for found in run("slime_reward.py", server.address, tmp_path):
        assert close(found, expected)


@pytest.mark.slow
def test_nemo_rl(server: ServerThread, tmp_path: Path, expected: list[float]) -> None:
    by_template, single, count = run("nemo_rl_env.py", server.address, tmp_path)
    assert close(by_template, expected)
    assert close(single, expected)
    assert count == 4


@pytest.mark.slow
def test_open_instruct(server: ServerThread, tmp_path: Path, expected: list[float]) -> None:
    results, sync = run("open_instruct_verifier.py", server.address, tmp_path)
    assert close(results, expected)
    assert close(sync, expected[0])


def test_every_adapter_has_an_example_and_a_test() -> None:
    adapters = {path.stem for path in (ROOT / "client/rm_grpc_client/adapters").glob("*.py")} - {"__init__", "shared"}
    examples = {path.name for path in (ROOT / "examples/trainers").glob("*.py")}
    assert all(any(name.startswith(adapter) for name in examples) for adapter in adapters)
    tested = Path(__file__).read_text(encoding="utf-8")
    assert all(f"def test_{adapter}(" in tested for adapter in adapters)
    assert len(adapters) == 10
