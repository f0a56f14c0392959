"""Servers that are frameworks: a padded batch in a few lines, as their manuals show it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.encoder import Encoder, Messages
from benchmarks.peers.environment import TORCH, Environment
from benchmarks.peers.http_load import request

_TRANSFORMERS = "transformers==5.23.0"


@dataclass(frozen=True)
class Small:
    """A framework and the module that is served with it; the module's file says how."""

    name: str
    requirement: str
    module: str
    path: str
    ready_path: str

    def install(self) -> Environment:
        """See `Peer`."""
        environment = Environment(self.requirement.partition("=")[0])
        environment.install([self.requirement, "jinja2==3.1.6"], constraints=[TORCH, _TRANSFORMERS])
        return environment

    def command(self, environment: Environment, folder: Path, port: int, cores: int) -> Sequence[str]:
        """See `Peer`."""
        return [environment.python, "-m", self.module, str(folder), str(port), str(cores)]

    def variables(self, cores: int) -> Mapping[str, str]:
        """See `Peer`."""
        return {"OMP_NUM_THREADS": str(cores)}

    def request(self, messages: Messages, encoder: Encoder) -> bytes:
        """See `Peer`."""
        del encoder
        return request(self.path, json.dumps({"messages": list(messages)}).encode())

    def score(self, body: bytes) -> float:
        """See `Peer`."""
        return float(json.loads(body)["score"])
