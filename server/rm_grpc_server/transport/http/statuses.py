"""What a failure is in HTTP."""

from __future__ import annotations

import math
import re
from typing import Any

import grpc
from fastapi.exceptions import RequestValidationError

from rm_grpc import errors

_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def status_of(error: errors.RewardError) -> int:
    """The HTTP status: 4xx where sending the same again cannot help, 429 and 503 where it can."""
    if isinstance(error, errors.MessageTooLargeError):
        return 413
    return _BY_CODE.get(error.code, 500)


def headers_of(error: errors.RewardError) -> dict[str, str]:
    """Headers that go with it: when to try again, in whole seconds, and the reason by its stable name."""
    headers = {"x-rm-grpc-reason": error.reason}
    if isinstance(error, errors.UnauthenticatedError):
        headers["www-authenticate"] = "Bearer"
    if error.retry_delay is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_delay)))
    elif status_of(error) >= 500:
        headers["x-should-retry"] = "false"  # the official OpenAI clients' header; they try any 5xx again otherwise
    return headers


def invalid(fault: RequestValidationError) -> errors.InvalidRequestError:
    """The error of a body that is not what its face takes, with the field named as the caller knows it."""
    first: dict[str, Any] = fault.errors()[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return errors.InvalidRequestError(f"the body is no JSON: {first.get('ctx', {}).get('error', message)}")
    if first["type"] == "extra_forbidden":
        message = "no such field here; this server would not follow it"
    return errors.InvalidRequestError(message, field=_path(first["loc"]))


_TAG = re.compile(r"vllm|sglang|tei|str|int|list\[.*\]")
"""Which of several forms a body or field was taken for; no part of the path to the field."""


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc[1:]:  # the first says body or query
        if isinstance(part, str) and _TAG.fullmatch(part):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
