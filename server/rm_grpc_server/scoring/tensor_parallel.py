"""One replica over several processes, each with a part of every layer (tensor parallelism as Transformers plans it).

Rank 0 is the replica's own process and speaks with the server. It starts the others, which do as it does: the same loading, the
same check, then the same batches, which it broadcasts. A rank that fails takes all of them with it, and the replica is
started anew.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rm_grpc_server.scoring.packed_scorer import PackedScorer
from rm_grpc_server.scoring.packing import ReplicaArguments
from rm_grpc_server.scoring.protocols import BatchOutcome
from rm_grpc_server.text.encoding import Tokens

_LAST_WORDS = 2.0
_NO_LIMIT = timedelta(days=365)
"""Ranks wait for the next batch as long as it takes; a rank that is gone is noticed by other means."""


class TensorParallelScorer:
    """Rank 0; see `ReplicaScorer`."""

    def __init__(self, scorer: PackedScorer) -> None:
        self._scorer = scorer
        self.description = scorer.description
        self._is_broken = False

    def prepare(self, conversations: Sequence[Tokens], /) -> tuple[Sequence[Tokens], Any]:
        """Packs a batch."""
        return conversations, self._scorer.prepare(conversations)

    def launch(self, prepared: tuple[Sequence[Tokens], Any], /) -> Any:
        """The forward pass, on all ranks."""
        conversations, own = prepared
        if self._is_broken:
            raise RuntimeError("the ranks of this replica are out of step")
        try:
            dist.broadcast_object_list([conversations], src=0)
            return self._scorer.launch_once(own)
        except BaseException as error:
            self._is_broken = True
            raise RuntimeError("a rank failed") from error

    def finish(self, launched: Any, /) -> BatchOutcome:
        """Reads the result."""
        return self._scorer.finish(launched)


def join_as_first(arguments: ReplicaArguments) -> Path:
    """Starts the other ranks, and becomes rank 0; the folder where they meet, of no more use once all have loaded."""
    folder = tempfile.mkdtemp(prefix="rm-grpc-ranks-")
    meeting = f"{folder}/meeting"
    for rank in range(1, len(arguments.devices)):
        follower = subprocess.Popen([sys.executable, "-m", __name__, str(rank), meeting], stdin=subprocess.PIPE)
        assert follower.stdin is not None
        pickle.dump(arguments, follower.stdin)
        follower.stdin.flush()
        # The pipe stays open for as long as this process lives, and no longer.
        threading.Thread(target=_end_with, args=(follower,), daemon=True).start()
    _join(0, meeting, arguments)
    return Path(folder)


def _end_with(follower: subprocess.Popen[bytes]) -> None:
    follower.wait()
    time.sleep(_LAST_WORDS)  # it may have met what this rank is about to tell
    os._exit(1)


def _join(rank: int, meeting: str, arguments: ReplicaArguments) -> None:
    world = len(arguments.devices)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    on_gpu = arguments.devices[0] != "cpu"
    if on_gpu:
        torch.cuda.set_device(rank)
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=_NO_LIMIT)


def follow(rank: int, meeting: str) -> None:
    """A further rank, until rank 0 is gone."""
    from rm_grpc_server.scoring.loading import load_rank

    arguments: ReplicaArguments = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_input, daemon=True).start()
    _join(rank, meeting, arguments)
    scorer = load_rank(arguments)
    assert isinstance(scorer, PackedScorer)
    while True:
        received: list[Any] = [None]
        dist.broadcast_object_list(received, src=0)
        scorer.launch_once(scorer.prepare(received[0]))


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    follow(int(sys.argv[1]), sys.argv[2])
