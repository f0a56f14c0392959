"""The client installs light, on old and new protobuf, and brings no model library along."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from services.server import ServerThread

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
import google.protobuf
from rm_grpc_client import RewardClient
assert google.protobuf.__version__.startswith(sys.argv[1]), google.protobuf.__version__
with RewardClient(sys.argv[2], model="arithmetic-logit") as client:
    [score] = client.score([[{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": "1+1=2"}]])
heavy = {"torch", "transformers", "tokenizers", "numpy", "pydantic", "jinja2", "yaml", "click", "rich", "rm_grpc_server"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
print(score.score)
"""


def interpreters() -> list[str]:
    """This Python, and 3.10 where there is one: the oldest that the client promises."""
    oldest = [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))]
    oldest += [path for path in [shutil.which("python3.10")] if path]
    return [sys.executable, *oldest[:1]]


@pytest.mark.slow
@pytest.mark.parametrize("python", interpreters())
@pytest.mark.parametrize("protobuf", ["5.29", "6.33", "7"])
def test_the_client_alone(server: ServerThread, tmp_path: Path, protobuf: str, python: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    packages = tmp_path / "packages"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(packages)]
    subprocess.run([*install, f"protobuf=={protobuf}.*", str(ROOT)], check=True, env=environment, timeout=240)
    installed = {path.name.split("-")[0].lower() for path in packages.glob("*.dist-info")}
    assert installed == {"rm_grpc", "grpcio", "protobuf", "googleapis_common_protos", "typing_extensions"}
    run = [python, "-I", "-c", f"import sys; sys.path.insert(0, {str(packages)!r})\n{SCRIPT}", protobuf, server.address]
    done = subprocess.run(run, check=False, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    float(done.stdout)
