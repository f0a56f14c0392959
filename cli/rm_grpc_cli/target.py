"""Whom a command asks: a running server, or one that it starts for itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console

from rm_grpc_client import RewardClient
from rm_grpc_server.deploy.child import ServerChild
from rm_grpc_server.errors import StartupError

_F = TypeVar("_F", bound=Callable[..., object])
_START_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Target:
    """A server's address, and the model to ask there (empty: the only one)."""

    address: str
    model: str


def target_options(command: _F) -> _F:
    """The flags that say whom to ask."""
    for option in (
        click.option(
            "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML file for the own server"
        ),
        click.option("--model", default="", help="with --address, the model's name there; else what to serve for this command"),
        click.option("--address", default="", help="host:port of a running server"),
    ):
        command = option(command)
    return command


@contextmanager
def open_target(address: str, model: str, config: Path | None, console: Console) -> Iterator[Target]:
    """The server that the flags name; one that is started here ends with the block."""
    if address:
        yield Target(address, model)
    elif model or config:
        with own_server([model] if model else [], config, console) as own:
            with RewardClient(own) as client:
                names = [info.name for info in client.list_models()]
            yield Target(own, names[0] if len(names) == 1 else "")
    else:
        raise click.UsageError("say whom to ask: --address HOST:PORT of a running server, or --model PATH to serve one here")


@contextmanager
def own_server(models: Sequence[str], config: Path | None, console: Console) -> Iterator[str]:
    """Runs `rm-grpc serve` as a child on a free port of this machine, and gives its address. It never outlives its parent."""
    with tempfile.TemporaryDirectory(prefix="rm-grpc-") as folder:
        arguments = [f"--model={model}" for model in models] + ([f"--config={config}"] if config else [])
        child = ServerChild(["--listen=127.0.0.1:0", *arguments], Path(folder))
        try:
            try:
                with console.status("starting a server (loading torch and the model) ..."):
                    address = child.wait(_START_SECONDS)
            except StartupError as error:
                raise click.ClickException(str(error)) from error
            yield address
        finally:
            child.stop()
