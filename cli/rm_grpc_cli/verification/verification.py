"""The whole result of a verification, and its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rm_grpc_cli.verification.cards import CardRow
from rm_grpc_cli.verification.comparison import Difference, difference
from rm_grpc_cli.verification.outcomes import SCORE
from rm_grpc_cli.verification.parity import Parity
from rm_grpc_cli.verification.served import Company

_EXACT = "float32"


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        model: fields of the model's description that do not depend on the dtype.
        probes: where the conversations came from.
    """

    model: Mapping[str, str]
    probes: str
    parities: tuple[Parity, ...]
    cards: tuple[CardRow, ...]

    @property
    def faults(self) -> list[str]:
        """Why it did not pass; empty where it did."""
        return [*(fault for parity in self.parities for fault in parity.faults), *self._card_faults()]

    def _card_faults(self) -> Iterator[str]:
        for row in self.cards:
            if row.counts and not row.is_within:
                told = (
                    "is refused"
                    if row.difference is None
                    else f"differs by {row.difference:+.3g}, more than {row.tolerance:.3g}"
                )
                yield f"{row.dtype}: the known score of {row.expected.name} {told}"

    @property
    def passed(self) -> bool:
        """The verdict."""
        return not self.faults

    @property
    def verdict(self) -> str:
        """The verdict, in a line."""
        if not self.passed:
            return f"FAILED: {'; '.join(self.faults)}"
        told = [
            f"{one.dtype} within {_allowed(one):.2g} of the naive path (largest {_worst(one):.1e})" for one in self.parities
        ]
        if any(row.counts for row in self.cards):
            told.append("known scores found again")
        if _EXACT not in {one.dtype for one in self.parities}:
            told.append("16 bits alone cannot tell a small fault from rounding, float32 was not run")
        return f"PASSED: {'; '.join(told)}"


def _worst(parity: Parity) -> float:
    return max(found.measure for found in parity.differences.values())


def _allowed(parity: Parity) -> float:
    return max(parity.allowed(name) for name in parity.differences)


def with_rounding(parities: Sequence[Parity]) -> tuple[Parity, ...]:
    """The same, with what each dtype costs by itself, where float32 was run too."""
    exact = next((one for one in parities if one.dtype == _EXACT), None)
    if exact is None:
        return tuple(parities)
    return tuple(one if one is exact else _rounded(one, exact) for one in parities)


def _rounded(parity: Parity, exact: Parity) -> Parity:
    truth = {one.name: one.naive[SCORE][0] for one in exact.compared}
    known = [one for one in parity.compared if one.name in truth and one.scores(Company.TOGETHER)]
    if not known:
        return parity
    references = [truth[one.name] for one in known]

    def apart(found: list[float]) -> Difference:
        return difference(references, found)

    return replace(
        parity,
        rounding=apart([one.naive[SCORE][0] for one in known]),
        served_rounding=apart([one.scores(Company.TOGETHER)[0] for one in known]),
    )
