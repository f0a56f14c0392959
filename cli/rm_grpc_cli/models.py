"""`rm-grpc models`: what a server has."""

from __future__ import annotations

import dataclasses
import json

import click
from rich.console import Console
from rich.table import Table

from rm_grpc_cli.target import ADDRESS_HELP, connect


@click.command()
@click.option("--address", default="127.0.0.1:50051", show_default=True, help=ADDRESS_HELP)
@click.option("--json", "as_json", is_flag=True, help="everything that is known of each model, as JSON")
def command(address: str, as_json: bool) -> None:
    """List the models that a server has."""
    with connect(address, reconnect=5, timeout=10) as client:
        models = client.list_models()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(model) for model in models], indent=2))
        return
    table = Table("model", "kind", "architecture", "dtype", "device", "max tokens", "digest")
    for model in models:
        limit = str(model.limits.max_length or "")
        table.add_row(model.name, model.scorer_kind, model.architecture, model.dtype, model.device, limit, model.model_digest)
    console = Console()
    console.print(table)
    for model in models:
        click.echo(f"{model.name}: {model.settings_source}")
        for note in model.notes:
            click.echo(f"  note: {note}")
