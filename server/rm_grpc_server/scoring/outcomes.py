"""What logic from outside gave, as outcomes that can be sent: plain values, checked, and errors of this service's own classes.

Nothing of the module's own classes may leave its process: the server would have to import the module to read it.
"""

from __future__ import annotations

import inspect
import itertools
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from rm_grpc import errors
from rm_grpc.errors import RewardError, ScoreNotFiniteError, ScorerFailedError
from rm_grpc.types import StepScore, Verdict
from rm_grpc_server.scoring.arithmetic import is_float32
from rm_grpc_server.scoring.protocols import Outcome

MOST_ATTRIBUTES = 256
MOST_NAME_BYTES = 64
MOST_STEPS = 1024
"""So that as many results as a message takes are never more than a message may hold."""
_MOST_STATUS_BYTES = 8192
_LARGEST_OFFSET = 2**31 - 1
_EXPECTED = "a number, a Verdict or a RewardError is expected"

_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 200


def told(error: BaseException) -> str:
    """An exception as text of bounded length, whatever its own methods do."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - classes from outside may fail at anything
        text = "(it cannot be shown)"
    text = text if len(text) <= 500 else f"{text[:500]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def listed(given: Any, count: int) -> list[Any]:
    """One outcome for each of `count` requests.

    Raises:
        TypeError: it is no sequence of outcomes.
        ValueError: there are more or fewer.
    """
    if isinstance(given, (str, bytes, bytearray, Mapping, set, frozenset)) or inspect.isasyncgen(given):
        raise TypeError(f"the scorer gave {_SHORT.repr(given)} where a list with one outcome a request is expected")
    try:
        outcomes = list(itertools.islice(iter(given), count + 1))
    except TypeError as error:
        if hasattr(type(given), "__next__"):
            raise  # a generator's own error
        raise TypeError(
            f"the scorer gave {_SHORT.repr(given)} where a list with one outcome a request is expected; "
            "set one_by_one where it takes one request a call"
        ) from error
    if len(outcomes) != count:
        more = f"more than {count}" if len(outcomes) > count else str(len(outcomes))
        raise ValueError(f"the scorer gave {more} outcomes for {count} requests")
    return outcomes


def outcome(given: Any) -> Outcome:
    """One outcome as it is sent; an error where it is none."""
    try:
        if isinstance(given, RewardError):
            return _error(given)
        return _verdict(given) if isinstance(given, Verdict) else Verdict(_number(given, "the score"))
    except RewardError as error:
        return error
    except Exception as error:  # noqa: BLE001 - methods of classes from outside may fail at anything
        return ScorerFailedError(f"the scorer gave {_SHORT.repr(given)}: {told(error)}")


def _error(given: RewardError) -> RewardError:
    """The error as the wire would tell it, so that a class from outside becomes the one that it is derived from."""
    status = errors.to_status(given)
    if status.ByteSize() > _MOST_STATUS_BYTES:
        raise ScorerFailedError(f"the scorer gave an error of {status.ByteSize()} bytes: {told(given)}")
    return errors.from_status(status)


def _verdict(given: Verdict) -> Verdict:
    attributes, steps = given.attributes, given.steps
    if not isinstance(attributes, Mapping) or len(attributes) > MOST_ATTRIBUTES:
        raise ScorerFailedError(f"attributes must be a mapping from names to numbers, with at most {MOST_ATTRIBUTES}")
    if not isinstance(steps, Sequence) or len(steps) > MOST_STEPS:
        raise ScorerFailedError(f"steps must be a tuple of StepScore, at most {MOST_STEPS}")
    named = {_name(name): _number(value, f"the attribute {_SHORT.repr(name)}") for name, value in attributes.items()}
    return Verdict(_number(given.raw_score, "the score"), named, tuple(_step(step, at) for at, step in enumerate(steps)))


def _name(given: Any) -> str:
    if not isinstance(given, str) or not 0 < len(given.encode(errors="replace")) <= MOST_NAME_BYTES:
        raise ScorerFailedError(
            f"an attribute's name must be text of at most {MOST_NAME_BYTES} bytes, not {_SHORT.repr(given)}"
        )
    given.encode()  # half of a surrogate pair cannot be sent
    return str(given)


def _step(given: Any, at: int) -> StepScore:
    if not isinstance(given, StepScore):
        raise ScorerFailedError(f"steps[{at}] must be a StepScore, not {_SHORT.repr(given)}")
    offsets = [int(value) for value in (given.token_offset, given.char_start, given.char_end)]
    if not 0 <= min(offsets) <= max(offsets) <= _LARGEST_OFFSET or offsets[1] > offsets[2]:
        raise ScorerFailedError(f"steps[{at}] spans from {offsets[1]} to {offsets[2]} at token {offsets[0]}")
    return StepScore(_number(given.score, f"steps[{at}].score"), *offsets)


def _number(given: Any, what: str) -> float:
    value = given
    if not isinstance(value, (int, float)) and callable(getattr(value, "item", None)):
        value = value.item()  # a scalar or an array of one, of numpy or torch
    if value is None or isinstance(value, (str, bytes, bytearray)):
        raise ScorerFailedError(f"{what} is {_SHORT.repr(given)} where {_EXPECTED}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError) as error:
        raise ScorerFailedError(f"{what} is {_SHORT.repr(given)} where {_EXPECTED}") from error
    if not is_float32(number):
        raise ScoreNotFiniteError(f"{what} is {number}, which is no finite float32")
    return number
