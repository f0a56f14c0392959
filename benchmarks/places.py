"""Where the benchmarks keep what they build and what they find."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The repository."""
CACHE = ROOT / "build" / "benchmarks"
"""Checkpoints, settings and logs of a run; may be deleted at any time."""
PEERS = ROOT / "build" / "peers"
"""One virtual environment for each other server."""
RESULTS = ROOT / "benchmarks" / "results"
"""What was found."""
DOCS = ROOT / "docs"
"""Pictures of the documentation."""
