"""The naive path's process: reads a job, loads the model, scores one conversation after another, and writes the answers.

A process of its own, so that the command holds no weights, and the memory of one model is free before the next is loaded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rm_grpc.json_lines import item_of_line
from rm_grpc_cli.verification.outcomes import Outcome, Refusal, numbers, to_json
from rm_grpc_client import RewardError
from rm_grpc_server.config import ModelSettings, ServerSettings, parse
from rm_grpc_server.errors import StartupError
from rm_grpc_server.opening.naive import NaiveModel

DIGESTS = ("weights_digest", "tokenizer_digest", "template_digest", "settings_json", "dtype", "model_digest")
"""Fields of a model's description that make its numbers; the last is of all of them."""


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """What is asked: the model's digests, and an outcome for each line.

    Args:
        job: `model` and `server` as settings, `devices` as this process sees them, `in_double` and `lines` as text.

    Raises:
        StartupError: the model has no naive path, or cannot be loaded.
    """
    settings, server = parse(ModelSettings, job["model"], "model"), parse(ServerSettings, job["server"], "settings")
    model = NaiveModel.open(settings, server, tuple(job["devices"]), in_double=job["in_double"])
    items = [item_of_line(line.encode(errors="surrogateescape")) for line in job["lines"]]
    outcomes: list[dict[str, Any]] = []
    for verdict in model.outcomes(items):
        outcome: Outcome
        if isinstance(verdict, RewardError):
            outcome = Refusal.of(verdict)
        else:
            outcome = numbers(verdict.raw_score, [step.score for step in verdict.steps], verdict.attributes)
        outcomes.append(to_json(outcome))
        print(len(outcomes), flush=True)  # the parent's progress
    return {"digests": {name: getattr(model.info, name) for name in DIGESTS}, "outcomes": outcomes}


def main(job_file: Path, answer_file: Path) -> None:
    """Answers a job; a model that cannot be loaded is told on standard error, with status 1."""
    try:
        told = answer(json.loads(job_file.read_text(encoding="utf-8")))
    except StartupError as error:
        sys.exit(str(error))
    answer_file.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
