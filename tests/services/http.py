"""Calls of a test server over HTTP, and the same over gRPC to compare with."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from rm_grpc.types import Item, Score, ScoreOptions
from rm_grpc_client import RewardClient
from services.server import ServerThread

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded_http.json").read_text(encoding="utf-8"))
"""Requests and responses of the servers whose faces we have, as their documents, tests and users recorded them."""


def url_of(server: ServerThread) -> str:
    """Where HTTP is served."""
    return f"http://{server.http_address}"


def caller(server: ServerThread, **options: Any) -> httpx.Client:
    """A client of HTTP that waits long, and goes past no proxy. Without certificates it is made in no time."""
    return httpx.Client(base_url=url_of(server), timeout=20, trust_env=False, verify=False, **options)


def post(server: ServerThread, path: str, body: Any, **options: Any) -> httpx.Response:
    """One call on a connection of its own."""
    with caller(server) as client:
        return client.post(path, json=body, **options)


def raw_post(server: ServerThread, path: str, body: bytes, content_type: str = "application/json") -> httpx.Response:
    """One call whose body is these bytes."""
    with caller(server) as client:
        return client.post(path, content=body, headers={"content-type": content_type})


def alone(
    server: ServerThread, model: str, subject: Any, *, metadata: Mapping[str, Any] | None = None, **options: Any
) -> Score:
    """What the gRPC client gives for one conversation by itself: messages in the OpenAI shape, text or token ids."""
    item = (
        Item.of(subject, metadata=metadata or {}) if isinstance(subject, list) else Item("", subject, metadata=metadata or {})
    )
    with RewardClient(server.address, model=model, options=ScoreOptions(**options)) as client:
        [score] = client.score([item])
    return score


def exchange(prompt: str, response: str) -> list[dict[str, Any]]:
    """A prompt and a response as messages."""
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]


def leave(server: ServerThread, path: str, body: bytes, *, until: Callable[[], object]) -> None:
    """Sends a request, and closes the connection without waiting for the answer once `until` is true."""
    host, _, port = server.http_address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        wait_until(until)


def wait_until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Until it is true, which must come."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
