"""The result as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from rm_grpc_cli.evaluation.tables import TitledTable
from rm_grpc_cli.verification.cards import CardRow
from rm_grpc_cli.verification.comparison import Difference
from rm_grpc_cli.verification.parity import Parity, Refused
from rm_grpc_cli.verification.verification import Verification

_LISTED = 10
_NOTES = (
    "measure: the largest difference relative to the naive number, or to the naive numbers' spread, where these are above 1",
    "pairs: that the naive scores tell apart; swapped: in the other order; merged: became equal; split: equal for naive "
    "only; within: largest naive difference in a swapped or merged pair",
    "moved: largest distance of a conversation's served score from the one it got alone; any two rounds: of its served scores",
)


def tables(found: Verification) -> Iterator[TitledTable]:
    """The tables, in the order of reading."""
    yield TitledTable("served minus naive, the worst of all rounds", _differences(found.parities))
    yield TitledTable("order of the scores, served together, against the naive order", _orders(found.parities))
    yield TitledTable("served scores in company, against the same alone", _company(found.parities))
    if any(parity.rounding for parity in found.parities):
        yield TitledTable("what the dtype costs: differences from the naive scores in float32", _rounding(found.parities))
    if found.cards:
        source = found.cards[0].expected.source
        yield TitledTable(f"scores that are known ({source})", _cards(found.cards))


def _table(*columns: str, wraps: int = 0) -> Table:
    """An empty table; only the column of this number is folded where the terminal is too narrow."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at > wraps else "left", overflow="fold", no_wrap=at != wraps)
    return table


def _differences(parities: Sequence[Parity]) -> Table:
    table = _table("dtype", "of", "numbers", "largest", "mean", "measure", "allowed", "", wraps=1)
    for parity in parities:
        for name, found in parity.differences.items():
            allowed = parity.allowed(name)
            verdict = "[green]within[/]" if found.measure <= allowed else "[red]beyond[/]"
            verdict = verdict if parity.judges(name) else "[dim]flag[/]"
            table.add_row(
                parity.dtype,
                Text(name),
                str(found.count),
                *map(_small, (found.largest, found.mean, found.measure, allowed)),
                verdict,
            )
    return table


def _orders(parities: Sequence[Parity]) -> Table:
    table = _table("dtype", "Spearman", "Kendall", "pairs", "swapped", "merged", "split", "within")
    for parity in parities:
        order = parity.agreement
        told = ["-" if one is None else f"{one:.6f}" for one in (order.spearman, order.kendall)]
        within = _small(order.widest_swap) if order.swapped or order.merged else "-"
        table.add_row(parity.dtype, *told, *map(str, (order.pairs, order.swapped, order.merged, order.split)), within)
    return table


def _company(parities: Sequence[Parity]) -> Table:
    table = _table("dtype", "company", "rounds", "of", "moved", "mean", "most")
    for parity in parities:
        for one in parity.steadiness:
            moved = (_small(one.largest), _small(one.mean))
            table.add_row(parity.dtype, one.company.value, str(one.rounds), str(one.count), *moved, Text(one.worst))
        table.add_row(parity.dtype, "any two rounds", "", "", _small(parity.spread), "", "")
    return table


def _rounding(parities: Sequence[Parity]) -> Table:
    table = _table("dtype", "path", "largest", "mean")
    for parity in parities:
        rows: list[tuple[str, Difference | None]] = [("naive", parity.rounding), ("served", parity.served_rounding)]
        for name, found in rows:
            if found is not None:
                table.add_row(parity.dtype, name, _small(found.largest), _small(found.mean))
    return table


def _cards(rows: Sequence[CardRow]) -> Table:
    table = _table("conversation", "dtype", "known", "served", "difference", "allowed", "")
    for row in rows:
        found = "refused" if row.found is None else f"{row.found:.5g}"
        apart = "-" if row.difference is None else f"{row.difference:+.3g}"
        verdict = "[green]within[/]" if row.is_within else "[red]beyond[/]"
        told = verdict if row.counts else "[dim]shown only[/]"
        table.add_row(row.expected.name, row.dtype, f"{row.expected.score:.5g}", found, apart, f"{row.tolerance:.3g}", told)
    return table


def told_notes(found: Verification) -> list[str]:
    """What the columns mean, what was refused, and what the sides read differently."""
    told = [line for parity in found.parities for line in _told(parity)]
    return [*_NOTES, *told, *_told_refusals(found.parities)]


def _told(parity: Parity) -> Iterator[str]:
    yield from (f"{parity.dtype}: {note}" for note in parity.notes)
    for name, one in parity.own_rounding.items():
        yield f"{parity.dtype}: the naive {name} by itself is up to {_small(one.measure)} from double precision"
    if parity.disagreements:
        yield f"{parity.dtype}: {len(parity.disagreements)} conversations do not have the same numbers on both sides"
        yield from (f"  {one.name}: {one.told}" for one in parity.disagreements[:_LISTED])


def _told_refusals(parities: Sequence[Parity]) -> Iterator[str]:
    """Each list once, with the dtypes that have it."""
    lists = {parity.refused: [other.dtype for other in parities if other.refused == parity.refused] for parity in parities}
    for refused, dtypes in lists.items():
        if refused:
            yield f"{len(refused)} conversations refused on both sides, for the same reason ({', '.join(dtypes)})"
            yield from map(_told_refusal, refused[:_LISTED])
        if len(refused) > _LISTED:
            yield f"  and {len(refused) - _LISTED} more"


def _told_refusal(one: Refused) -> str:
    return f"  {one.name}: {one.refusal.reason}: {one.refusal.message}"


def _small(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}" if value < 0.01 else f"{value:.3g}"
