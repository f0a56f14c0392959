"""The real grpcurl and buf, as a stranger to the project would use them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from services.server import ServerThread

BIN = Path(sys.executable).parent
CONVERSATION = {
    "messages": [{"role": "user", "content": [{"text": "What is 1+1?"}]}, {"role": "assistant", "content": [{"text": "1+1=2"}]}]
}
REQUEST = {"model": "arithmetic-logit", "items": [{"id": "a", "conversation": CONVERSATION}]}


def run(*arguments: str, data: str | None = None) -> str:
    done = subprocess.run(
        [str(BIN / arguments[0]), *arguments[1:]], check=False, input=data, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def grpcurl(*arguments: str, data: Any = None) -> str:
    body = ["-d", "@"] if data is not None else []
    return run(
        "grpcurl", "-plaintext", *body, *arguments, data=data if isinstance(data, str) or data is None else json.dumps(data)
    )


def test_grpcurl_lists_and_describes(server: ServerThread) -> None:
    services = grpcurl(server.address, "list").split()
    assert {"rm_grpc.v1.RewardService", "grpc.health.v1.Health"} <= set(services)
    described = grpcurl(server.address, "describe", "rm_grpc.v1.RewardService")
    for method in ("Score", "ScoreBatch", "ListModels", "GetModel", "Tokenize"):
        assert f"rpc {method} " in described
    assert "raw_score" in grpcurl(server.address, "describe", "rm_grpc.v1.Score")


@pytest.mark.parametrize("service", ["", "rm_grpc.v1.RewardService", "models/arithmetic-logit", "models/arithmetic-classifier"])
def test_grpcurl_checks_health(server: ServerThread, service: str) -> None:
    answer = json.loads(grpcurl(server.address, "grpc.health.v1.Health/Check", data={"service": service}))
    assert answer == {"status": "SERVING"}


def test_grpcurl_calls(server: ServerThread) -> None:
    answer = json.loads(grpcurl(server.address, "rm_grpc.v1.RewardService/Score", data=REQUEST))
    assert answer["results"][0]["id"] == "a"
    assert isinstance(answer["results"][0]["score"]["raw_score"], float)
    models = json.loads(grpcurl(server.address, "rm_grpc.v1.RewardService/ListModels"))
    assert [model["name"] for model in models["models"]] == ["arithmetic-classifier", "arithmetic-logit"]


def test_grpcurl_streams(server: ServerThread) -> None:
    messages = [{"open": {"model": "arithmetic-logit"}}, {"items": {"items": REQUEST["items"]}}]
    answers = grpcurl(server.address, "rm_grpc.v1.RewardService/ScoreBatch", data="\n".join(map(json.dumps, messages)))
    assert '"opened"' in answers
    assert '"raw_score"' in answers


def test_grpcurl_shows_typed_errors(server: ServerThread) -> None:
    call = ["-plaintext", "-d", '{"name": "nothing"}', server.address, "rm_grpc.v1.RewardService/GetModel"]
    done = subprocess.run([str(BIN / "grpcurl"), *call], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "Code: NotFound" in done.stderr
    assert "MODEL_NOT_FOUND" in done.stderr


def buf(server: ServerThread, method: str, data: object) -> Any:
    url = f"http://{server.address}/{method}"
    return json.loads(run("buf", "curl", "--http2-prior-knowledge", "--protocol", "grpc", "-d", json.dumps(data), url))


def test_buf_curl(server: ServerThread) -> None:
    url = f"http://{server.address}"
    assert "rm_grpc.v1.RewardService" in run(
        "buf", "curl", "--http2-prior-knowledge", "--protocol", "grpc", "--list-methods", url
    )
    assert buf(server, "rm_grpc.v1.RewardService/Score", REQUEST)["results"][0]["score"]["tokenCount"] > 10
    assert buf(server, "grpc.health.v1.Health/Check", {}) == {"status": "SERVING"}
    assert buf(server, "rm_grpc.v1.RewardService/Tokenize", REQUEST)["results"][0]["tokenization"]["bosCount"] == 1
