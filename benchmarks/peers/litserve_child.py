"""LitServe around a padded batch. Run as `python -m benchmarks.peers.litserve_child FOLDER PORT THREADS` in its environment.

Annotations are evaluated here: LitServe reads the request's type from them.
"""

import sys
from pathlib import Path
from typing import Any

import litserve  # type: ignore[import-not-found]  # it is installed in its own environment only

from benchmarks.encoder import Messages
from benchmarks.peers.padded_model import MOST_CONVERSATIONS, WAIT_SECONDS, PaddedModel


class Scoring(litserve.LitAPI):  # type: ignore[misc]  # for the same reason
    """Chat messages in, a score out."""

    def setup(self, device: str) -> None:
        """Loads the model in the worker."""
        del device
        self._scorer = PaddedModel(Path(sys.argv[1]), int(sys.argv[3]))

    def decode_request(self, request: dict[str, Any]) -> Messages:
        """The conversation of a request."""
        messages: Messages = request["messages"]
        return messages

    def predict(self, conversations: list[Messages]) -> list[float]:
        """The scores of a batch."""
        return self._scorer.scores(conversations)

    def encode_response(self, score: float) -> dict[str, float]:
        """The answer to a request."""
        return {"score": score}


if __name__ == "__main__":
    api = Scoring(max_batch_size=MOST_CONVERSATIONS, batch_timeout=WAIT_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=600)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, num_api_servers=1, log_level="warning")
