"""mosec around a padded batch. Run as `python -m benchmarks.peers.mosec_child FOLDER PORT THREADS` in its environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import mosec  # type: ignore[import-not-found]  # it is installed in its own environment only

from benchmarks.peers.padded_model import MOST_CONVERSATIONS, WAIT_SECONDS, PaddedModel


class Scoring(mosec.Worker):  # type: ignore[misc]  # for the same reason
    """Chat messages in, a score out."""

    def __init__(self) -> None:
        super().__init__()
        self._scorer = PaddedModel(Path(os.environ["CHECKPOINT"]), int(os.environ["THREADS"]))

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, float]]:
        """The scores of a batch."""
        return [{"score": score} for score in self._scorer.scores([one["messages"] for one in data])]


if __name__ == "__main__":
    os.environ["CHECKPOINT"], os.environ["THREADS"] = sys.argv[1], sys.argv[3]
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", sys.argv[2], "--timeout", "600000"]  # it reads the command line itself
    server = mosec.Server()
    server.append_worker(
        Scoring, num=1, max_batch_size=MOST_CONVERSATIONS, max_wait_time=int(1000 * WAIT_SECONDS), start_method="spawn"
    )
    server.run()
