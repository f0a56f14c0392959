"""Our own face: lines of JSON in, lines of JSON out as they finish, each a score or a typed error."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from rm_grpc import errors, json_lines
from rm_grpc.types import Activation, Item, Result
from rm_grpc_server.transport.http.face import Asked, Tongue, asked, face
from rm_grpc_server.transport.http.scoring import Call, HttpScoring, while_connected

_LINES = "application/x-ndjson"
_EXAMPLE = '{"prompt": "What is 1+1?", "response": "1+1=2", "id": "a"}\n{"messages": [{"role": "user", ...}, ...]}\n'
_BODY = {"required": True, "content": {_LINES: {"schema": {"type": "string"}, "example": _EXAMPLE}}}


TONGUE = Tongue(lambda _, error: {"error": json_lines.error_fields(error)})


def routes(scoring: HttpScoring) -> APIRouter:
    """The routes."""
    router = face("rm-grpc", TONGUE, scoring)

    @router.post("/v1/score_batch", response_class=StreamingResponse, openapi_extra={"requestBody": _BODY})
    async def score_batch(
        request: Request,
        given: Annotated[Asked, Depends(asked)],
        activation: Annotated[Activation, Query(description="what is applied to the raw score")] = Activation.NONE,
    ) -> StreamingResponse:
        """Scores lines of conversations; results come as they finish.

        A line is a list of messages, or an object with `messages`, with `prompt` and `response`, or with `text`; it may have an
        `id`, a `group`, `metadata`, `tools` and a `timeout` in seconds. Each gets one line: its `line` (from 0) and `id`, and
        either `score` and what goes with it or `error`. A line that cannot be read is an error of its own. Empty
        lines count and have no answer.
        """
        body = await request.body()
        lines = [(number, line) for number, line in enumerate(body.split(b"\n")) if line.strip()]
        items = [_item(line) for _, line in lines]
        if not items:
            raise errors.EmptyBatchError("the body holds no line; each line is one conversation to score")
        call = Call(scoring.engine(given.model), items, replace(given.options, activation=activation))
        results = scoring.results(request, call)
        try:  # what is wrong with the whole request is told by the status
            first = await while_connected(request, anext(results))
        except BaseException:
            await results.aclose()
            raise

        async def told() -> AsyncIterator[str]:
            async with aclosing(results):
                yield _line(lines[first.index][0], first)
                async for result in results:
                    yield _line(lines[result.index][0], result)

        return StreamingResponse(told(), media_type=_LINES)

    return router


def _item(line: bytes) -> Item | errors.RewardError:
    try:
        return json_lines.item_of_line(line)
    except errors.RewardError as error:
        return error


def _line(number: int, result: Result) -> str:
    named = {"id": result.id} if result.id else {}
    return json.dumps({"line": number, **named, **json_lines.outcome_fields(result.outcome)}) + "\n"
