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
from rm_grpc_client.settings import ENV_PREFIX, ClientSettings
from rm_grpc_server.deploy.child import ServerChild
from rm_grpc_server.errors import StartupError

_F = TypeVar("_F", bound=Callable[..., object])
_START_SECONDS = 600


_DOOR = ("http", "http-origins", "tls-cert-file", "tls-key-file", "tls-client-ca-file", "token-file", "token-env")
_OWN = ("--listen=127.0.0.1:0", *(f"--{key}=" for key in _DOOR))
"""What a configuration file says of the door does not hold for a server that only its parent asks."""
ADDRESS_HELP = (
    f"host:port of a running server; what it asks for is taken from {ENV_PREFIX}TOKEN or {ENV_PREFIX}TOKEN_FILE, "
    f"{ENV_PREFIX}TLS=true, {ENV_PREFIX}CA_FILE, {ENV_PREFIX}CERT_FILE and {ENV_PREFIX}KEY_FILE"
)


def connect(address: str, model: str = "", *, reconnect: float = 60.0, timeout: float = 600.0) -> RewardClient:
    """A client of a running server, with the encryption and the token that the environment tells."""
    security = ClientSettings.of({}).security
    return RewardClient(address, model=model, reconnect=reconnect, timeout=timeout, security=security)


@dataclass(frozen=True, slots=True)
class Target:
    """A server's address, and the model to ask there (empty: the only one)."""

    address: str
    model: str
    is_own: bool = False

    def connect(self) -> RewardClient:
        """A client of it."""
        return RewardClient(self.address, model=self.model) if self.is_own else connect(self.address, self.model)


def target_options(command: _F) -> _F:
    """The flags that say whom to ask."""
    for option in (
        click.option(
            "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML file for the own server"
        ),
        click.option("--model", default="", help="with --address, the model's name there; else what to serve for this command"),
        click.option("--address", default="", help=ADDRESS_HELP),
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
            yield Target(own, names[0] if len(names) == 1 else "", is_own=True)
    else:
        raise click.UsageError("say whom to ask: --address HOST:PORT of a running server, or --model PATH to serve one here")


@contextmanager
def own_server(models: Sequence[str], config: Path | None, console: Console) -> Iterator[str]:
    """Runs `rm-grpc serve` as a child on a free port of this machine, and gives its address. It never outlives its parent."""
    with tempfile.TemporaryDirectory(prefix="rm-grpc-") as folder:
        arguments = [f"--model={model}" for model in models] + ([f"--config={config}"] if config else [])
        child = ServerChild([*_OWN, *arguments], Path(folder))
        try:
            try:
                with console.status("starting a server (loading torch and the model) ..."):
                    address = child.wait(_START_SECONDS)
            except StartupError as error:
                raise click.ClickException(str(error)) from error
            yield address
        finally:
            child.stop()
