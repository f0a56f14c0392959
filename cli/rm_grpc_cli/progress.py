"""A bar that tells how far a command is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress(
    told: str, total: int, console: Console, *, done: int = 0, remaining: bool = True
) -> Iterator[Callable[[float], None]]:
    """A bar while the block lasts; calling what it gives moves it on by so much.

    Args:
        told: what stands before it.
        done: how much is done already.
        remaining: whether the time that is left is told.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, *((TimeRemainingColumn(),) if remaining else ()), console=console) as bar:
        task = bar.add_task(told, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
