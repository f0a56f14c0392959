"""What happened to each batch, as lines of JSON: the raw material of timelines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.engine.messages import Stages
from rm_grpc_server.scoring.protocols import BatchOutcome


class Trace:
    """A file of batches; all times are seconds on the machine's monotonic clock."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)

    def batch(self, model: str, entries: Sequence[Entry], result: BatchOutcome, stages: Stages) -> None:
        """Writes one batch with its items."""
        line = {
            "model": model,
            "received": stages.received,
            "packed": stages.packed,
            "started": stages.started,
            "ended": stages.ended,
            "computed_tokens": result.computed_tokens,
            "items": [
                {
                    "accepted": entry.accepted,
                    "text_started": entry.text_started,
                    "render": entry.encoding.render_seconds,
                    "encode": entry.encoding.encode_seconds,
                    "queued": entry.queued,
                    "tokens": len(entry.ids),
                    "shared_tokens": shared,
                }
                for entry, shared in zip(entries, result.shared_tokens, strict=True)
                if entry.encoding is not None
            ],
        }
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
