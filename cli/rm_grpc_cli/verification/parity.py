"""Both sides of one dtype, compared: what is the same, what differs, what was refused, and whether that passes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rm_grpc_cli.verification.comparison import Agreement, Difference, agreement, difference, farthest, spread
from rm_grpc_cli.verification.outcomes import ATTRIBUTE, SCORE, Numbers, Outcome, Refusal
from rm_grpc_cli.verification.probes import Probe
from rm_grpc_cli.verification.served import Company, Round
from rm_grpc_client import RewardError

TOLERANCES: Mapping[str, float] = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.1}
"""By `Difference.measure`. In float32 packed and naive path differ by the order of sums only. In 16 bits both round in every
layer, and not alike: these are the tolerances of the server's own check at load, a bound on rounding and no proof of parity."""

_OWN_ROUNDING = 3.0
"""How far the paths may be apart, as a multiple of how far the naive one is from double precision: once for the naive path, and
twice for the served one, of whose rounds the farthest counts."""
_MOST_ROUNDING = 1e-3
"""What is farther apart in float32 is no rounding."""

_FLAG = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Compared:
    """A conversation that has numbers on both sides.

    Attributes:
        served: the numbers of each round that it was in.
    """

    name: str
    naive: Numbers
    served: tuple[tuple[Company, Numbers], ...]

    def all_of(self, name: str) -> tuple[float, ...]:
        """All numbers of a quantity, of both sides."""
        return (*self.naive[name], *(value for _, found in self.served for value in found[name]))

    def scores(self, *companies: Company) -> list[float]:
        """Served scores, of all rounds or of those of some kinds."""
        return [found[SCORE][0] for kind, found in self.served if not companies or kind in companies]


@dataclass(frozen=True, slots=True)
class Refused:
    """A conversation that has no score on either side, for the same reason."""

    name: str
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A conversation that one side refuses and the other does not, or that has more numbers on one side."""

    name: str
    told: str


@dataclass(frozen=True, slots=True)
class Steadiness:
    """How far a conversation's served scores are from the one it got alone.

    Attributes:
        rounds: how many of the kind there were.
        count: conversations that were in them.
        worst: name of the conversation that moved most.
    """

    company: Company
    rounds: int
    count: int
    largest: float
    mean: float
    worst: str


@dataclass(frozen=True, slots=True)
class Parity:
    """What one dtype showed.

    Attributes:
        rounding: differences of this dtype's naive scores from those of the naive path in float32, where that was run: what
            the dtype costs by itself.
        served_rounding: the same of the served scores.
        own_rounding: how far the naive numbers are from the same in double precision, where that was run.
        notes: what the two sides read differently, by their digests.
    """

    dtype: str
    device: str
    model_digest: str
    compared: tuple[Compared, ...]
    refused: tuple[Refused, ...]
    disagreements: tuple[Disagreement, ...]
    deterministic: bool = False
    rounding: Difference | None = None
    served_rounding: Difference | None = None
    own_rounding: Mapping[str, Difference] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def allowed(self, name: str) -> float:
        """The largest `Difference.measure` with which a quantity passes."""
        own = self.own_rounding.get(name)
        return max(TOLERANCES[self.dtype], _OWN_ROUNDING * own.measure if own is not None else 0.0)

    @property
    def may_be_rounding(self) -> bool:
        """Whether nothing but differences make this a failure, and all so small that double precision may explain them."""
        if self.dtype != "float32" or self.disagreements or not self.faults:
            return False
        return all(found.measure <= _MOST_ROUNDING for found in self.differences.values())

    def beside_double(self, double: Mapping[str, Numbers]) -> Parity:
        """The same, with the naive numbers' own rounding; `double` has those of double precision by conversation."""
        pairs: dict[str, tuple[list[float], list[float]]] = {}
        for one in self.compared:
            for name, values in double.get(one.name, {}).items():
                references, found = pairs.setdefault(name, ([], []))
                references.extend(values)
                found.extend(one.naive[name])
        return replace(self, own_rounding={name: difference(*both) for name, both in pairs.items()})

    @property
    def differences(self) -> dict[str, Difference]:
        """Of each quantity; of several served numbers the one that is farthest from the naive one counts."""
        found: dict[str, tuple[list[float], list[float]]] = {}
        for one in self.compared:
            for name, naive in one.naive.items():
                references, served = found.setdefault(name, ([], []))
                references.extend(naive)
                served.extend(farthest(value, [each[name][at] for _, each in one.served]) for at, value in enumerate(naive))
        return {name: difference(*both) for name, both in found.items()}

    @property
    def agreement(self) -> Agreement:
        """On the order of the scores, as they were served together."""
        together = [one for one in self.compared if one.scores(Company.TOGETHER)]
        return agreement([one.naive[SCORE][0] for one in together], [one.scores(Company.TOGETHER)[0] for one in together])

    @property
    def steadiness(self) -> list[Steadiness]:
        """For each kind of company that there was."""
        return list(self._steadiness())

    def _steadiness(self) -> Iterator[Steadiness]:
        for company in (Company.TOGETHER, Company.SHUFFLED, Company.SIBLINGS):
            moved = {one.name: _moved(one, company) for one in self.compared if one.scores(company)}
            if moved:
                rounds = max(len(one.scores(company)) for one in self.compared)
                worst = max(moved, key=moved.__getitem__)
                yield Steadiness(company, rounds, len(moved), moved[worst], statistics.fmean(moved.values()), worst)

    @property
    def spread(self) -> float:
        """The largest distance of two served scores of the same conversation."""
        return max((spread(one.scores()) for one in self.compared), default=0.0)

    @property
    def faults(self) -> list[str]:
        """Why this dtype does not pass; empty where it does."""
        return list(self._faults())

    @property
    def flags(self) -> set[str]:
        """Attributes that are 0 or 1 everywhere, such as whether both orders of a pair agree. A rounding error may turn one
        over, so that in 16 bits they are told and not judged."""
        ones = {name for one in self.compared for name in one.naive if name.startswith(ATTRIBUTE)}
        return {name for name in ones if all(each in _FLAG for one in self.compared for each in one.all_of(name))}

    def judges(self, name: str) -> bool:
        """Whether a quantity takes part in the verdict."""
        return self.dtype == "float32" or name not in self.flags

    def _faults(self) -> Iterator[str]:
        for name, found in self.differences.items():
            if self.judges(name) and not found.measure <= self.allowed(name):
                yield f"{self.dtype}: {name} differs by {found.measure:.2g}, more than {self.allowed(name):.2g}"
        if self.disagreements:
            yield f"{self.dtype}: {len(self.disagreements)} conversations do not have the same numbers on both sides"
        if self.deterministic and self.spread:
            yield f"{self.dtype}: a deterministic model's scores move by {self.spread:.2g} with their company"


def _moved(one: Compared, company: Company) -> float:
    (alone,) = one.scores(Company.ALONE)
    return max(abs(score - alone) for score in one.scores(company))


@dataclass(frozen=True, slots=True)
class Sides:
    """Probes sorted by what both sides made of them."""

    compared: tuple[Compared, ...]
    refused: tuple[Refused, ...]
    disagreements: tuple[Disagreement, ...]


def sides(probes: Sequence[Probe], rounds: Sequence[Round], naive: Mapping[int, Outcome]) -> Sides:
    """Puts the outcomes of both sides together; none is dropped."""
    compared: list[Compared] = []
    refused: list[Refused] = []
    disagreements: list[Disagreement] = []
    for at, probe in enumerate(probes):
        if isinstance(probe.item, RewardError):
            refused.append(Refused(probe.name, Refusal.of(probe.item)))
            continue
        found = _side_by_side(probe.name, naive[at], [(one.company, one.outcomes[at]) for one in rounds if at in one.outcomes])
        if isinstance(found, Compared):
            compared.append(found)
        elif isinstance(found, Refused):
            refused.append(found)
        else:
            disagreements.append(found)
    return Sides(tuple(compared), tuple(refused), tuple(disagreements))


def _side_by_side(name: str, naive: Outcome, served: Sequence[tuple[Company, Outcome]]) -> Compared | Refused | Disagreement:
    for company, outcome in served:
        if _form(outcome) != _form(naive):
            return Disagreement(name, f"naive: {_told(naive)}; served {company.value}: {_told(outcome)}")
    if isinstance(naive, Refusal):
        return Refused(name, naive)
    return Compared(name, naive, tuple((company, one) for company, one in served if not isinstance(one, Refusal)))


def _form(outcome: Outcome) -> str | dict[str, int]:
    """What must be the same on both sides before numbers can be compared at all."""
    return outcome.reason if isinstance(outcome, Refusal) else {name: len(values) for name, values in outcome.items()}


def _told(outcome: Outcome) -> str:
    if isinstance(outcome, Refusal):
        return f"refused ({outcome.reason}: {outcome.message})"
    return ", ".join(f"{len(values)} {name}" if len(values) > 1 else name for name, values in outcome.items())
