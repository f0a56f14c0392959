"""From messages to ids: what a trainer's own call costs, and the server's text side with either encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import Row, ratios
from benchmarks.text.engines import EngineError, engine
from benchmarks.text.kinds import Messages

BATCH = 32
"""Conversations of one call."""
_TRAINER = "transformers padded"


def whole_rows(
    families: Sequence[tuple[str, Path]], given: Sequence[Messages], rounds: int
) -> tuple[list[Row], dict[str, Any]]:
    """The rows, and every single slice."""
    rows: list[Row] = []
    slices: dict[str, Any] = {}
    portions = [list(given[start :: rounds + 1]) for start in range(rounds + 1)]
    with engine("pipelines", "benchmarks.text.whole_child") as child:
        for family, folder in families:
            try:
                answer = child.ask("measure", folder=str(folder), portions=portions, batch=BATCH)
            except EngineError as error:
                rows.append({"tokenizer": family, "what": f"failed: {error}"[:160].replace("|", "/").replace("\n", " ")})
                continue
            slices[family] = answer["found"]
            rows += _rows(family, answer["found"])
            for key, why in answer["failed"].items():
                rows.append({"tokenizer": family, "what": f"{key}: {why}"[:160].replace("|", "/").replace("\n", " ")})
    return rows, slices


def _rows(family: str, found: dict[str, list[dict[str, Any]]]) -> list[Row]:
    def microseconds(key: str) -> list[float]:
        return [1e6 * one["seconds"] / one["conversations"] for one in found[key]]

    trainer = microseconds(_TRAINER) if found.get(_TRAINER) else []
    rows: list[Row] = []
    for key, slices in found.items():
        row: dict[str, object] = {"tokenizer": family, "what": slices[0]["name"]}
        row |= {"times as fast as the padded call": ratios(trainer, microseconds(key))["median"] if trainer else None}
        row |= {"µs / conversation": median(microseconds(key))}
        row |= {"CPU s / wall s": sum(one["cpu"] for one in slices) / sum(one["seconds"] for one in slices)}
        row |= {"other ids": sum(one["wrong"] for one in slices), "refused": sum(one["refused"] for one in slices)}
        rows.append(row | {"conversations": sum(one["conversations"] for one in slices)})
    return rows
