"""Scores probes on the naive path, in a process of its own that ends before anything else is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click import ClickException

from rm_grpc_cli.verification.outcomes import Outcome, from_json
from rm_grpc_cli.verification.probes import Probe
from rm_grpc_client import Item
from rm_grpc_server.config import ModelSettings, ServerSettings
from rm_grpc_server.engine.devices import CPU, visible
from rm_grpc_server.errors import StartupError
from rm_grpc_server.opening.naive import naive_devices

_CHILD = "rm_grpc_cli.verification.child"


@dataclass(frozen=True, slots=True)
class NaiveRun:
    """What the naive path gave.

    Attributes:
        digests: of what it read, to be compared with the server's.
        outcomes: by the probe's place in the list.
    """

    digests: Mapping[str, str]
    outcomes: dict[int, Outcome]


def score_naively(
    model: ModelSettings,
    server: ServerSettings,
    probes: Sequence[Probe],
    progress: Callable[[], object] = lambda: None,
    *,
    in_double: bool = False,
) -> NaiveRun:
    """Every probe by itself through the whole Transformers model under eager attention.

    Args:
        progress: called after each probe.
        in_double: in double precision instead of the settings' dtype.

    Raises:
        ClickException: the model cannot be loaded.
    """
    places = [at for at, probe in enumerate(probes) if isinstance(probe.item, Item)]
    devices = _devices(model)
    seen = devices if devices == CPU else tuple(f"cuda:{at}" for at in range(len(devices)))
    job = {
        "devices": seen,
        "in_double": in_double,
        "model": model.model_dump(mode="json", exclude_unset=True),
        "server": server.model_dump(mode="json", exclude_unset=True, exclude={"models", "listen", "ready_file"}),
        "lines": [probes[at].line for at in places],
    }
    answer = _ask(job, visible(devices), model.served_name, progress)
    outcomes = [from_json(told) for told in answer["outcomes"]]
    return NaiveRun(answer["digests"], dict(zip(places, outcomes, strict=True)))


def _devices(model: ModelSettings) -> tuple[str, ...]:
    try:
        return naive_devices(model)
    except StartupError as error:
        raise ClickException(str(error)) from error


def _ask(job: dict[str, Any], gpus: str, name: str, progress: Callable[[], object]) -> dict[str, Any]:
    """Runs the child, which sees these GPUs and no others."""
    with tempfile.TemporaryDirectory(prefix="rm-grpc-") as folder:
        job_file, answer_file, log = Path(folder) / "job", Path(folder) / "answer", Path(folder) / "log"
        job_file.write_text(json.dumps(job), encoding="utf-8")
        start = [sys.executable, "-m", _CHILD, str(job_file), str(answer_file)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpus}
        with (
            log.open("w") as errors,
            subprocess.Popen(start, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as child,
        ):
            try:
                assert child.stdout is not None
                for _ in child.stdout:
                    progress()
            except BaseException:
                child.kill()  # Ctrl-C, mostly; leaving the block waits for it
                raise
        if child.returncode:
            told = log.read_text(errors="replace").strip() or f"it ended with status {child.returncode}"
            raise ClickException(f"the naive path of {name} cannot be computed: {told}")
        answer: dict[str, Any] = json.loads(answer_file.read_text(encoding="utf-8"))
    return answer
