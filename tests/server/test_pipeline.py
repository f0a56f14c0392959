"""The stages of a replica, each on a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from rm_grpc.types import Verdict
from rm_grpc_server.engine.messages import Done, Failed, Message, Work
from rm_grpc_server.engine.pipeline import Pipeline
from rm_grpc_server.engine.progress import Progress
from rm_grpc_server.scoring.protocols import BatchOutcome, ScorerDescription
from rm_grpc_server.text.encoding import Tokens
from rm_grpc_server.text.reading import LastToken

FAULT = 999
STAGES = ("prepare", "launch", "finish")


class Noting:
    """Fails in one stage on a certain token, and notes which threads each stage ran on."""

    def __init__(self, fails_in: str, error: Exception) -> None:
        self.description = ScorerDescription("noting", LastToken(), "float32", "cpu", 1000)
        self.threads: dict[str, set[int]] = {stage: set() for stage in STAGES}
        self._fails_in, self._error = fails_in, error

    def _pass(self, stage: str, given: Sequence[Tokens]) -> Sequence[Tokens]:
        self.threads[stage].add(threading.get_ident())
        if stage == self._fails_in and any(FAULT in one.ids for one in given):
            raise self._error
        return given

    def prepare(self, conversations: Sequence[Tokens], /) -> Sequence[Tokens]:
        return self._pass("prepare", conversations)

    def launch(self, prepared: Sequence[Tokens], /) -> Sequence[Tokens]:
        return self._pass("launch", prepared)

    def finish(self, launched: Sequence[Tokens], /) -> BatchOutcome:
        given = self._pass("finish", launched)
        return BatchOutcome([Verdict(0.0)] * len(given), [0] * len(given))


@pytest.mark.parametrize("error", [ValueError("a fault"), MemoryError("too little")])
@pytest.mark.parametrize("stage", STAGES)
def test_a_failure_is_told_after_a_probe_and_forwards_stay_on_their_thread(stage: str, error: Exception) -> None:
    """Ranks of one replica must stay in step, so that a forward never runs on two threads."""
    scorer, progress, deaths = Noting(stage, error), Progress(), list[str]()
    told: queue.SimpleQueue[Message] = queue.SimpleQueue()
    pipeline = Pipeline(scorer, told.put, progress, lambda: deaths.append("died"))
    pipeline.start()
    for number, token in enumerate((1, FAULT, 2, FAULT, 3), start=1):
        pipeline.submit(Work(number, [Tokens.read_at_end(np.array([token], dtype=np.int32))]))
    found = sorted((told.get(timeout=10) for _ in range(5)), key=lambda message: getattr(message, "number", 0))
    pipeline.close()
    assert [type(message) for message in found] == [Done, Failed, Done, Failed, Done]
    failure = found[1]
    assert isinstance(failure, Failed)
    assert failure.out_of_memory == isinstance(error, MemoryError)
    assert str(error) in failure.message
    assert len(scorer.threads["launch"]) == 1
    assert progress.packing == 5
    assert not deaths


def test_the_next_batch_is_not_suspected_of_what_the_last_one_did() -> None:
    """The probe after a failed forward comes before the batch that is packed already."""
    packed = threading.Event()

    class Lost(Noting):
        """A device that is lost with the first batch, when the second is packed."""

        def prepare(self, conversations: Sequence[Tokens], /) -> Sequence[Tokens]:
            if any(2 in one.ids for one in conversations):
                packed.set()
            return conversations

        def launch(self, prepared: Sequence[Tokens], /) -> Sequence[Tokens]:
            packed.wait(10)
            raise RuntimeError("the device is lost")

    progress, on_device_at_death, died = Progress(), list[int](), threading.Event()

    def die() -> None:
        on_device_at_death.append(progress.on_device)
        died.set()
        threading.Event().wait(0.2)  # a process would be gone

    pipeline = Pipeline(Lost("launch", ValueError()), lambda _: None, progress, die)
    pipeline.start()
    for number in (1, 2):
        pipeline.submit(Work(number, [Tokens.read_at_end(np.array([number], dtype=np.int32))]))
    assert died.wait(10)
    pipeline.close()
    assert on_device_at_death[0] == 1
