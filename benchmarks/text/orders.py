"""How a measured process is spoken to: orders come and answers go as pickles, each over a pipe. Standard library only."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from typing import Any


def answer_orders(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answers orders until standard input closes; one that fails is answered with its error.

    The second argument of the command line is the pipe that answers go to.
    """
    with os.fdopen(int(sys.argv[2]), "wb") as answers:
        while True:
            try:
                order = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            try:
                found = answer(order)
            except BaseException as error:  # noqa: BLE001 - Rust panics are no Exception, and stand in the table
                found = {"error": f"{type(error).__name__}: {error}"}
            pickle.dump(found, answers)
            answers.flush()
