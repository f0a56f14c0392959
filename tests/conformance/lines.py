"""Lines for a program's standard input, from the short forms that the cases have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def line_of(given: str | Mapping[str, Any]) -> bytes:
    """A line as it is, or an object as JSON; `say` is the response of a conversation, and `padded` repeats a text behind it."""
    if isinstance(given, str):
        return given.encode()
    fields = dict(given)
    if "say" in fields:
        padding = fields.pop("padded", {"with": "", "times": 0})
        response = fields.pop("say") + padding["with"] * padding["times"]
        fields["messages"] = conversation("?", response)
    return json.dumps(fields, ensure_ascii=False).encode()


def generated(count: int, say: str, *, first: int = 0, bytes: int = 1) -> Iterator[bytes]:  # noqa: A002 - as the cases say it
    """Lines of many items, whose ids are their numbers; `say` may hold {n}, and the prompt has so many bytes."""
    for number in range(first, first + count):
        said = say.replace("{n}", str(number))
        yield json.dumps({"id": str(number), "messages": conversation("?" * bytes, said)}).encode()


def conversation(prompt: str, response: str) -> list[dict[str, str]]:
    """A prompt and a response as messages."""
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
