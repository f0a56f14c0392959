"""The scorer that the cases are asked of: the response says what it does.

    score 1.5            that number
    wait 0.3 score 2     the number after some seconds
    busy 2 score 3       RESOURCE_EXHAUSTED twice, with a time to wait, and then the number
    full 30              RESOURCE_EXHAUSTED always, with so many seconds to wait
    away 0.8 score 4     UNAVAILABLE for so many seconds, with a time to wait, and then the number
    rich                 1, with attributes and the scores of two steps
    length               how many characters the response has
    count                how often it was asked this
    tell                 everything that came, as JSON in the message of an error
    fail                 an exception

Whatever else it is, it scores 0.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

from rm_grpc.errors import InvalidRequestError, OverloadedError, UnavailableError
from rm_grpc.scorer import Outcome, Request
from rm_grpc.types import StepScore, Verdict

_RETRY_SECONDS = 0.1


class ByResponse:
    """See the module."""

    one_by_one = True

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._away_since: dict[str, float] = {}

    async def score(self, request: Request) -> Outcome:
        """What the response asks for."""
        response = request.response
        if response.startswith("length"):
            return float(len(response))
        verb, *words = response.split(maxsplit=4) or [""]
        if verb == "wait":
            await asyncio.sleep(float(words[0]))
            verb, *words = words[1:]
        if verb == "busy":
            if self._count(response) <= int(words[0]):
                return OverloadedError("the scorer is busy", retry_delay=_RETRY_SECONDS)
            del self._asked[response]  # for the next case that says the same
            return float(words[2])
        if verb == "full":
            return OverloadedError("the scorer is full", retry_delay=float(words[0]))
        if verb == "away":
            since = self._away_since.setdefault(response, time.monotonic())
            if time.monotonic() - since < float(words[0]):
                return UnavailableError("the scorer is away", retry_delay=_RETRY_SECONDS)
            del self._away_since[response]
            return float(words[2])
        if verb == "fail":
            raise ValueError("a fault of this response")
        return self._plain(verb, words, request)

    def _plain(self, verb: str, words: list[str], request: Request) -> Outcome:
        if verb == "score":
            return float(words[0])
        if verb == "count":
            return float(self._count(request.response))
        if verb == "tell":
            return InvalidRequestError(json.dumps(_shown(request)))
        if verb == "rich":
            steps = (StepScore(0.25, 7, 0, 2), StepScore(-0.5, 9, 2, 4))
            return Verdict(1.0, {"helpful": 0.5, "harmless": -2.0}, steps)
        return 0.0

    def _count(self, response: str) -> int:
        self._asked[response] += 1
        return self._asked[response]


def _shown(request: Request) -> dict[str, Any]:
    """Everything that came, without what is empty, for the message of an error is short; tools in the order of their keys."""
    messages = [
        {
            "role": message.role,
            "content": message.text,
            "name": message.name,
            "tool_calls": [[call.id, call.name, call.arguments] for call in message.tool_calls],
            "tool_call_id": message.tool_call_id,
            "reasoning": message.reasoning_content,
        }
        for message in request.prompt
    ]
    shown = {
        "messages": [{key: value for key, value in message.items() if value} for message in messages],
        "tools": json.loads(request.conversation.tools, object_pairs_hook=list) if request.conversation.tools else None,
        "metadata": dict(request.metadata),
        "group": request.group,
    }
    return {key: value for key, value in shown.items() if value}
