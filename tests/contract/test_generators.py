"""Stubs that a user makes of the contract with today's generator work beside those that are shipped, made with an old one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import google.rpc
import grpc
import pytest
from services.server import ServerThread

ROOT = Path(__file__).parents[2]
GENERATOR = f"grpcio-tools=={grpc.__version__}"
SCRIPT = """
import sys
from rm_grpc.v1 import reward_service_pb2, reward_service_pb2_grpc
import grpc
assert sys.argv[1] in reward_service_pb2.__file__, reward_service_pb2.__file__
request = reward_service_pb2.ScoreRequest(model="arithmetic-logit", items=[{"text": "1+1=2"}])
with grpc.insecure_channel(sys.argv[2]) as channel:
    print(reward_service_pb2_grpc.RewardServiceStub(channel).Score(request).results[0].score.token_count)
"""


@pytest.mark.slow
def test_stubs_of_todays_generator(server: ServerThread, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    tools, made = tmp_path / "tools", tmp_path / "made"
    made.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*install, "--target", str(tools), GENERATOR], check=True, env=environment, timeout=240)
    includes = [f"-I{ROOT / 'protos'}", f"-I{Path(next(iter(google.rpc.__path__))).parents[1]}"]
    protos = [str(path) for path in sorted((ROOT / "protos/rm_grpc/v1").glob("*.proto"))]
    generate = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        *includes,
        f"--python_out={made}",
        f"--grpc_python_out={made}",
        *protos,
    ]
    subprocess.run(generate, check=True, env={**environment, "PYTHONPATH": str(tools)}, timeout=120)
    (made / "rm_grpc/__init__.py").touch()  # or the package that is installed would be found before it
    run = [sys.executable, "-c", SCRIPT, str(made), server.address]
    done = subprocess.run(
        run,
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(made)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
