"""The result as one JSON object: every number of every conversation, and all that was made of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rm_grpc_cli.verification.cards import CardRow
from rm_grpc_cli.verification.outcomes import to_json
from rm_grpc_cli.verification.parity import TOLERANCES, Compared, Parity
from rm_grpc_cli.verification.verification import Verification


def report(found: Verification) -> dict[str, Any]:
    """The verdict first, then what it rests on; a number that does not exist is null."""
    return {
        "passed": found.passed,
        "faults": found.faults,
        "model": dict(found.model),
        "probes": found.probes,
        "dtypes": {parity.dtype: _parity(parity) for parity in found.parities},
        "known_scores": [_card(row) for row in found.cards],
    }


def _parity(parity: Parity) -> dict[str, Any]:
    return {
        "device": parity.device,
        "model_digest": parity.model_digest,
        "passed": not parity.faults,
        "tolerance": TOLERANCES[parity.dtype],
        "allowed": {name: parity.allowed(name) for name in parity.differences},
        "own_rounding": {name: asdict(one) for name, one in parity.own_rounding.items()},
        "differences": {name: asdict(one) for name, one in parity.differences.items()},
        "order": asdict(parity.agreement),
        "company": [{**asdict(one), "company": one.company.value} for one in parity.steadiness],
        "spread": parity.spread,
        "deterministic": parity.deterministic,
        "rounding": {
            "naive": asdict(parity.rounding) if parity.rounding else None,
            "served": asdict(parity.served_rounding) if parity.served_rounding else None,
        },
        "notes": list(parity.notes),
        "refused": [{"name": one.name, **asdict(one.refusal)} for one in parity.refused],
        "disagreements": [asdict(one) for one in parity.disagreements],
        "conversations": [_conversation(one) for one in parity.compared],
    }


def _conversation(one: Compared) -> dict[str, Any]:
    served = [{"company": company.value, **to_json(found)} for company, found in one.served]
    return {"name": one.name, "naive": to_json(one.naive), "served": served}


def _card(row: CardRow) -> dict[str, Any]:
    told = {"dtype": row.dtype, "served": row.found, "difference": row.difference, "tolerance": row.tolerance}
    return {**asdict(row.expected), **told, "within": row.is_within, "counts": row.counts}
