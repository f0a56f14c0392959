"""What a run of a benchmark was asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from benchmarks.server import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """The command line's wishes.

    Attributes:
        quick: a small run that shows that everything works; its figures mean little.
        sizes: of the models.
        repeats: pairs of slices.
        sweep: measure further settings.
        settings: for every server of ours.
        only: peers to measure; empty for all.
        families: tokenizers to measure; empty for all.
        tokenizers: folder with a folder for each tokenizer; by default those that the tests build.
        conversations: file of conversations whose text is measured too.
    """

    quick: bool
    sizes: Sequence[str]
    repeats: int
    sweep: bool
    settings: Settings
    only: Sequence[str] = ()
    families: Sequence[str] = ()
    tokenizers: Path | None = None
    conversations: Path | None = None
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    _repeat: count[int] = field(default_factory=count)

    def repeat(self) -> int:
        """A number that no other slice of this run has, for fresh text."""
        return next(self._repeat)

    def say(self, told: str) -> None:
        """Tells whoever waits how far it is."""
        print(told, file=sys.stderr, flush=True)
