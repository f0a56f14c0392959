"""A replica's process, `python -m rm_grpc_server.engine.worker SOCKET PROGRESS`: started by the server, and ended with it."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
from importlib import import_module
from typing import NoReturn

from rm_grpc_server.engine.messages import BlockingChannel, Ready, Refused, ReplicaSpec, Work
from rm_grpc_server.engine.pipeline import Pipeline
from rm_grpc_server.engine.progress import Progress
from rm_grpc_server.engine.request_pipeline import RequestPipeline
from rm_grpc_server.errors import StartupError
from rm_grpc_server.scoring.main_thread import MAIN_THREAD
from rm_grpc_server.scoring.protocols import RequestScorer

_POISONED, _BROKEN = 70, 74
_LOOK_SECONDS = 0.5


def main(descriptor: int, shared: int) -> None:
    """Loads what the server asks for, then scores until the server is gone.

    Args:
        descriptor: of the socket that the server talks through.
        shared: descriptor of the memory in which it is told what is begun.
    """
    # Whoever stops a process group means the server, which drains first; this process ends when the server does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    channel = BlockingChannel(socket.socket(fileno=descriptor))
    progress = Progress(shared)
    os.close(shared)
    # What a scorer starts must not hold the socket: the server sees a death by its end.
    os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=lambda: os.close(descriptor))
    is_ready = threading.Event()
    threading.Thread(target=_end_with_server, args=(descriptor, is_ready), name="until ready", daemon=True).start()
    spec: ReplicaSpec = channel.receive()
    module, _, attribute = spec.factory.partition(":")
    try:
        scorer = getattr(import_module(module), attribute)(*spec.arguments)
    except StartupError as error:
        channel.send(Refused(str(error)))
        return
    finally:
        is_ready.set()
    try:
        channel.send(Ready(scorer.description))
    except BrokenPipeError:
        return  # the server did not wait for it
    if scorer.description.reading is None:
        _serve_requests(channel, scorer, progress)
    pipeline = Pipeline(scorer, channel.send, progress, lambda: os._exit(_POISONED))
    pipeline.start()
    while isinstance(work := channel.receive(), Work):
        pipeline.submit(work)
    os._exit(0)  # without waiting for a forward pass whose result nobody reads


def _end_with_server(descriptor: int, is_ready: threading.Event) -> None:
    """Ends the process when the server goes while the scorer is loading: it holds its devices, and reads nothing until then."""
    socket_end = select.poll()
    socket_end.register(descriptor, 0)  # what is told without being asked for is that the other end is closed
    while not is_ready.wait(_LOOK_SECONDS):
        if socket_end.poll(0):
            os.killpg(0, signal.SIGKILL)  # with what the scorer started


def _serve_requests(channel: BlockingChannel, scorer: RequestScorer, progress: Progress) -> NoReturn:
    """Scores whole items, with the main thread for the scorer's own calls."""
    pipeline = RequestPipeline(scorer, channel.send, progress)
    pipeline.start()
    threading.Thread(target=_read_requests, args=(channel, pipeline), name="reader", daemon=True).start()
    try:
        MAIN_THREAD.run()
    finally:
        os._exit(_BROKEN)  # a signal's handler raised between two calls


def _read_requests(channel: BlockingChannel, pipeline: RequestPipeline) -> None:
    try:
        while isinstance(work := channel.receive(), Work):
            pipeline.submit(work)
        pipeline.close()
    except BaseException:
        logging.getLogger(__name__).exception("the scorer could not be closed")
        raise
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os.killpg(0, signal.SIGKILL)  # with what the scorer started; each replica is a group of its own


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s replica %(process)d: %(message)s")
    main(int(sys.argv[1]), int(sys.argv[2]))
