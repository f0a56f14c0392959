"""Entries that wait for several others: the parts that an item is read in, or the components of an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rm_grpc import errors
from rm_grpc.types import Activation, Score
from rm_grpc_server.engine.entry import Entry, Outcome

_OVER = errors.ItemCancelledError("the item that this is a part of has its outcome")
Together = Callable[[Sequence[Score]], Outcome]


def split(entry: Entry, count: int) -> list[Entry]:
    """Entries for the parts of an item, with its deadline and of its stream."""
    options = replace(entry.options, activation=Activation.NONE)
    return [
        Entry(entry.item, options, entry.deadline, entry.accepted, entry.stream, text_started=entry.text_started)
        for _ in range(count)
    ]


def join(entry: Entry, parts: Sequence[Entry], together: Together, *, names: Sequence[str] = ()) -> None:
    """Resolves an entry when its parts are: with the first error of one, or with what all make together.

    An entry that is over ends its parts.

    Args:
        together: the entry's outcome from its parts' scores, in their order.
        names: of the parts, for a caller who is to know which of them failed.
    """

    def heard(part: Entry, outcome: Outcome) -> None:
        if isinstance(outcome, errors.RewardError):
            at = next(at for at, each in enumerate(parts) if each is part)
            entry.resolve(outcome.of_part(names[at]) if names else outcome)
            return
        scores = [each.outcome for each in parts if isinstance(each.outcome, Score)]
        if entry.outcome is None and len(scores) == len(parts):
            entry.resolve(_made(scores, together))

    for part in parts:
        part.watch(heard)
    entry.watch(lambda *_: _end(parts))


def _made(scores: Sequence[Score], together: Together) -> Outcome:
    try:
        return together(scores)
    except Exception as error:  # noqa: BLE001 - the item must have an outcome
        return errors.InternalError(f"the parts of the item cannot be combined: {error!r}")


def _end(parts: Sequence[Entry]) -> None:
    for part in parts:
        part.resolve(_OVER)
