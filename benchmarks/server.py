"""`rm-grpc serve` as a process of its own, with the settings that a benchmark asks for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml

from benchmarks.places import CACHE
from benchmarks.processes import Child

_OF_A_MODEL = {"dtype", "devices", "replicas", "prefix_sharing", "prefix_cache_bytes", "deterministic"}


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that a benchmark gives to every server, unless it measures that very setting.

    Attributes:
        given: by name, those of a model and those of the server alike.
        left_out: settings that this server does not know, and that are not passed.
    """

    given: Mapping[str, Any] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()

    def document(self, folder: Path, name: str, **settings: Any) -> dict[str, Any]:
        """What the settings file says, for one model."""
        values = {**self.given, **settings}
        kept = {key: value for key, value in values.items() if key not in self.left_out}
        model = {key: value for key, value in kept.items() if key in _OF_A_MODEL}
        server = {key: value for key, value in kept.items() if key not in _OF_A_MODEL}
        models = [{"path": str(folder), "name": name, **model}]
        return {"listen": "127.0.0.1:0", "log_level": "warning", **server, "models": models}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready.

    Attributes:
        address: where it listens.
        child: its process.
        settings: what its settings file says, of the server and of the model.
    """

    address: str
    child: Child
    settings: Mapping[str, Any]


@contextmanager
def reward_server(folder: Path, base: Settings, **settings: Any) -> Iterator[Server]:
    """Serves a checkpoint until the block ends.

    Raises:
        ChildFailedError: the server does not start.
    """
    document = base.document(folder, "model", devices="cpu", **settings)
    home = run_folder("server")
    (home / "settings.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    command = [sys.executable, "-m", "rm_grpc_cli", "serve", "--until-stdin-closes", "--config", str(home / "settings.yaml")]
    with Child([*command, "--ready-file", str(home / "address")], log=home / "log") as child:
        told = {key: value for key, value in document.items() if key not in ("listen", "log_level", "models")}
        told |= {key: value for key, value in document["models"][0].items() if key not in ("path", "name")}
        yield Server(child.wait_for(home / "address"), child, told)


def run_folder(name: str) -> Path:
    """A folder of its own for one process: its settings, ready file and log."""
    home = CACHE / "runs" / name
    home.mkdir(parents=True, exist_ok=True)
    return Path(mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=home))
