"""Lines of the output of `score`: each belongs to one line of the input."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from rm_grpc.errors import RewardError
from rm_grpc.json_lines import outcome_fields
from rm_grpc_client import Score


def line_digest(line: bytes) -> str:
    """Short digest of an input line, by which a resumed run knows that the output belongs to the input."""
    return hashlib.sha256(line.rstrip(b"\r\n")).hexdigest()[:16]


def output_line(line: int, item_id: str, digest: str, outcome: Score | RewardError) -> str:
    """One line of output."""
    fields: dict[str, Any] = {"line": line, "input": digest}
    if item_id:
        fields["id"] = item_id
    return json.dumps(fields | outcome_fields(outcome))
