"""What a replica has begun, as the server sees it."""

from __future__ import annotations

import subprocess
import sys

from rm_grpc_server.engine.progress import Progress

_CHILD = """
import os, signal, sys
from rm_grpc_server.engine.progress import Progress
progress = Progress(int(sys.argv[1]))
progress.packing, progress.on_device = 2**40 + 1, 7
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_outlives_the_process_that_wrote_it() -> None:
    with Progress.shared() as (progress, descriptor):
        assert (progress.packing, progress.on_device) == (0, 0)
        child = subprocess.run([sys.executable, "-c", _CHILD, str(descriptor)], pass_fds=[descriptor], check=False)
    assert child.returncode < 0
    assert (progress.packing, progress.on_device) == (2**40 + 1, 7)


def test_each_has_its_own() -> None:
    first, second = Progress(), Progress()
    first.packing = 3
    assert (first.packing, second.packing) == (3, 0)
