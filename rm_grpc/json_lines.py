"""Items and outcomes as lines of JSON: what the command line and the HTTP interface read and write."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, NoReturn

from rm_grpc.errors import InvalidRequestError, RewardError
from rm_grpc.types import Conversation, Item, Score

_LONGEST_SECONDS = 3e11
"""Protobuf's durations end there."""


def item_of_line(line: bytes) -> Item:
    """The item of one input line.

    A line is a list of messages, or an object with `messages`, with `prompt` and `response`, or with `text`. A response may
    be a list of its steps. An object may also have `id`, `group`, `metadata`, `tools` and a `timeout` in seconds.

    Raises:
        InvalidRequestError: the line is none of these.
    """
    try:
        raw = json.loads(line, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the line is no JSON: {error}") from error
    if isinstance(raw, list):
        return Item("", Conversation.from_openai(raw))
    if not isinstance(raw, dict):
        raise InvalidRequestError("a line must be a list of messages or an object")
    known = {"messages", "prompt", "response", "text", "id", "group", "metadata", "tools", "timeout"}
    if unknown := sorted(set(raw) - known):
        raise InvalidRequestError(f"unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    metadata = raw.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InvalidRequestError("must be an object", field="metadata")
    return Item(_name(raw, "id"), _input(raw), _timeout(raw), _name(raw, "group"), metadata)


def _timeout(raw: dict[str, Any]) -> float | None:
    value = raw.get("timeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LONGEST_SECONDS:
        raise InvalidRequestError("must be seconds, as a number that is not negative", field="timeout")
    return float(value)


def refuse_constant(name: str) -> NoReturn:
    """For `json.loads`: what JSON has not, though Python's parser takes it, could not be sent on."""
    raise InvalidRequestError(f"{name} is no JSON value")


def _name(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidRequestError("must be a string or an integer", field=key)
    return str(value)


def _input(raw: dict[str, Any]) -> Conversation | str:
    tools = json.dumps(raw["tools"]) if raw.get("tools") else ""
    if "messages" in raw:
        return Conversation.from_openai(raw["messages"], tools=tools)
    if "prompt" in raw and "response" in raw:
        prompt = raw["prompt"]
        if not isinstance(prompt, (str, list)):
            raise InvalidRequestError("must be text or a list of messages", field="prompt")
        opening = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        response = raw["response"]
        if isinstance(response, list):
            response = [{"type": "text", "text": step} if isinstance(step, str) else step for step in response]
        return Conversation.from_openai([*opening, {"role": "assistant", "content": response}], tools=tools)
    if isinstance(raw.get("text"), str):
        return str(raw["text"])
    raise InvalidRequestError("a line needs messages, or prompt and response, or text")


def outcome_fields(outcome: Score | RewardError) -> dict[str, Any]:
    """An outcome as JSON has it: the score with its provenance, or the error; never both, never neither."""
    if isinstance(outcome, RewardError):
        return {"error": error_fields(outcome)}
    fields: dict[str, Any] = {
        "score": outcome.score,
        "raw_score": outcome.raw_score,
        "token_count": outcome.token_count,
        "truncated": outcome.truncated,
        "model_digest": outcome.model_digest,
    }
    if outcome.attributes:
        fields["attributes"] = dict(outcome.attributes)
    if outcome.steps:
        fields["steps"] = [asdict(step) for step in outcome.steps]
    return fields


def error_fields(error: RewardError) -> dict[str, Any]:
    """An error as JSON has it."""
    fields: dict[str, Any] = {"code": error.code.name, "reason": error.reason, "field": error.field, "message": error.message}
    if error.retry_delay is not None:
        fields["retry_delay"] = error.retry_delay
    return fields
