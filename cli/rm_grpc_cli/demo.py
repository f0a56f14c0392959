"""`rm-grpc demo`: the main job in one command, with the models that come with the package."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources

import click
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from rm_grpc_cli.target import own_server
from rm_grpc_client import Conversation, Message, RewardClient

_MODELS = ("arithmetic-classifier", "arithmetic-logit")
_ROLLOUT_SECONDS = 0.05


@dataclass(slots=True)
class _Pair:
    prompt: str
    right: str
    wrong: str
    scores: dict[tuple[str, str], float] = field(default_factory=dict)

    def conversation(self, side: str) -> Conversation:
        return Conversation((Message("user", self.prompt), Message("assistant", getattr(self, side))))

    def is_ranked(self, model: str) -> bool | None:
        right, wrong = self.scores.get((model, "right")), self.scores.get((model, "wrong"))
        return None if right is None or wrong is None else right > wrong


@click.command()
def command() -> None:
    """Start a server with the two embedded models, stream conversations to it as rollouts would, and show scores as they come.

    The models are a demonstration: they judge small arithmetic word problems and nothing else.
    """
    console = Console()
    pairs = [_Pair(**json.loads(line)) for line in resources.files("rm_grpc_cli").joinpath("demo.jsonl").open(encoding="utf-8")]
    with own_server([f"embedded:{name}" for name in _MODELS], None, console) as address:
        click.echo(f"server on {address}; streaming {len(pairs)} right and {len(pairs)} wrong answers to each of its models")
        start = time.monotonic()
        with Live(_table(pairs), console=console, refresh_per_second=10, vertical_overflow="visible") as live:
            for model in _MODELS:
                _stream(address, model, pairs, live)
        seconds = time.monotonic() - start
    for model in _MODELS:
        ranked = sum(pair.is_ranked(model) is True for pair in pairs)
        click.echo(f"{model}: the right answer above the wrong one in {ranked} of {len(pairs)} pairs")
    click.echo(
        f"{2 * len(_MODELS) * len(pairs)} conversations scored in {seconds:.1f} s, arriving {_ROLLOUT_SECONDS:g} s apart"
    )


def _stream(address: str, model: str, pairs: list[_Pair], live: Live) -> None:
    order = [(pair, side) for pair in pairs for side in ("right", "wrong")]

    def rollouts() -> Iterator[Conversation]:
        for pair, side in order:
            time.sleep(_ROLLOUT_SECONDS)  # stands for the time that a policy takes to write the next answer
            yield pair.conversation(side)

    with RewardClient(address, model=model) as client:
        for result in client.score_stream(rollouts()):
            pair, side = order[result.index]
            pair.scores[model, side] = result.score.score
            live.update(_table(pairs))


def _table(pairs: list[_Pair]) -> Table:
    table = Table(title="scores as they arrive", box=box.SIMPLE, expand=True)
    table.add_column("\nprompt", no_wrap=True, overflow="ellipsis", ratio=1)
    for model in _MODELS:
        table.add_column(f"{model.removeprefix('arithmetic-')}\nright", justify="right", min_width=6)
        table.add_column("answer\nwrong", justify="right", min_width=6)
        table.add_column("", min_width=1)
    for pair in pairs:
        cells = [pair.prompt]
        for model in _MODELS:
            cells += [_number(pair.scores.get((model, side))) for side in ("right", "wrong")]
            cells.append({None: "", True: "[green]>[/]", False: "[red]<[/]"}[pair.is_ranked(model)])
        table.add_row(*cells)
    return table


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:+.2f}"
