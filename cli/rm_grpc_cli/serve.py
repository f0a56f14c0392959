"""`rm-grpc serve`: its flags are the server's settings, declared in `rm_grpc_server.config` and nowhere else."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import click
from pydantic.fields import FieldInfo

from rm_grpc_server.config import ENV_PREFIX, ServerSettings, load_settings
from rm_grpc_server.errors import StartupError


def _option(name: str, field: FieldInfo) -> click.Option:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    flag = str(extra.get("flag", name)).replace("_", "-")
    help_text = f"{field.description}  [env: {ENV_PREFIX}{name.upper()}]"
    if field.annotation is bool:
        return click.Option([f"--{flag}/--no-{flag}", name], default=None, help=help_text)
    default = field.get_default()
    if isinstance(default, tuple):
        told = ", ".join(model.path for model in default)
        return click.Option([f"--{flag}", name], multiple=True, metavar="[NAME=]PATH", help=f"{help_text} [default: {told}]")
    shown = "" if default is None else f" [default: {default}]"
    return click.Option([f"--{flag}", name], default=None, metavar=_metavar(field), help=help_text + shown)


def _metavar(field: FieldInfo) -> str:
    return {int: "N", float: "SECONDS"}.get(field.annotation, "TEXT")  # type: ignore[arg-type]  # an annotation may be any type


@click.command(params=[_option(name, field) for name, field in ServerSettings.model_fields.items()])
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML file with the same settings")
def command(config: Path | None, **flags: Any) -> None:
    """Serve reward models until Ctrl-C or SIGTERM, then finish what was accepted.

    A flag wins over the environment, the environment over the file. Models are checkpoint folders or hub ids; settings of
    public models come from presets, and every text and scorer setting of a model can be set in the file.
    """
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    try:
        settings = load_settings(file=config, flags=given)
        logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        for noisy in ("httpx", "httpx2", "httpcore", "huggingface_hub", "filelock", "uvicorn.error"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from rm_grpc_server.serve import run  # imports torch: takes seconds, and bad settings should not

        asyncio.run(run(settings))
    except StartupError as error:
        raise click.ClickException(str(error)) from error
