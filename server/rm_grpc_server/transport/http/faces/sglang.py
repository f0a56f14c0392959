"""SGLang's /classify and /v1/embeddings (verl's path to reward models): the raw score as an embedding of one number.

Format: sglang 0.5.23, srt/entrypoints. Text goes through the tokenizer with its special tokens there; here they are added where
the text does not begin with them, so that none stands there twice.
"""

from __future__ import annotations

import base64
import struct
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field, StrictStr

from rm_grpc import errors
from rm_grpc.types import ModelInfo, Score, SpecialTokens
from rm_grpc_server.transport.http.face import Asked, Body, Tongue, answer_in, asked, face, refuse
from rm_grpc_server.transport.http.inputs import Ids, Prompts, is_batch, items_of, names_of
from rm_grpc_server.transport.http.numbers import head_outputs, token_count
from rm_grpc_server.transport.http.scoring import Call, HttpScoring

_NO_EFFECT = "no effect here"


class ClassifyRequest(Body):
    """What `/classify` takes in SGLang's form."""

    text: StrictStr | list[StrictStr] | None = None
    input_ids: Ids | None = None
    rid: str | list[str] | None = None
    model: str = ""
    priority: Any = Field(None, description=_NO_EFFECT)
    sampling_params: Any = Field(None, description=_NO_EFFECT)
    log_metrics: Any = Field(None, description=_NO_EFFECT)


class EmbeddingsRequest(Body):
    """What `/v1/embeddings` takes."""

    input: Prompts
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    rid: str | list[str] | None = None
    user: Any = Field(None, description=_NO_EFFECT)
    priority: Any = Field(None, description=_NO_EFFECT)


CLASSIFY = Tongue(lambda _, error: {"error": {"message": error.message, "param": error.field or None}})


def _flat(status: int, error: errors.RewardError) -> dict[str, Any]:
    kind = "BadRequestError" if status < 500 else "InternalServerError"
    return {"object": "error", "message": error.message, "type": kind, "param": error.field or None, "code": status}


def routes(scoring: HttpScoring) -> APIRouter:
    """The routes; `/classify` itself is with vLLM's."""
    router = face("SGLang", Tongue(_flat), scoring)

    @router.post("/encode", include_in_schema=False)
    async def encode(request: Request, body: ClassifyRequest, given: Annotated[Asked, Depends(asked)]) -> Any:
        return await classified(scoring, request, body, given)

    @router.post("/v1/embeddings")
    async def embeddings(request: Request, body: EmbeddingsRequest, given: Annotated[Asked, Depends(asked)]) -> dict[str, Any]:
        """The raw score of each text, as an embedding of as many numbers as the model's head has."""
        scores, info = await _scored(scoring, request, given, body.model, body.input, "input")
        data = [
            {"object": "embedding", "index": at, "embedding": _embedding(score, info, body.encoding_format)}
            for at, score in enumerate(scores)
        ]
        read = token_count(scores)
        usage = {"prompt_tokens": read, "total_tokens": read, "completion_tokens": 0}
        return {"object": "list", "model": info.name, "data": data, "usage": usage}

    return router


async def classified(scoring: HttpScoring, request: Request, body: ClassifyRequest, given: Asked) -> Any:
    """SGLang's answer to `/classify`: one object for one text, a list for a list."""
    answer_in(request, CLASSIFY)
    if (body.text is None) == (body.input_ids is None):
        raise refuse("text", "give text or input_ids")
    prompts: Prompts = body.text if body.text is not None else body.input_ids or []
    scores, info = await _scored(scoring, request, given, body.model, prompts, "text" if body.text is not None else "input_ids")
    names = [body.rid] if isinstance(body.rid, str) else body.rid or [uuid.uuid4().hex for _ in scores]
    if len(names) != len(scores):
        raise refuse("rid", f"{len(names)} names for {len(scores)} texts")
    answers = [
        {
            "embedding": _embedding(score, info, "float"),
            "meta_info": {
                "id": name,
                "finish_reason": None,
                "prompt_tokens": score.token_count,
                "e2e_latency": _seconds(score),
            },
        }
        for name, score in zip(names, scores, strict=True)
    ]
    return answers if is_batch(prompts) else answers[0]


async def _scored(
    scoring: HttpScoring, request: Request, given: Asked, model: str, prompts: Prompts, field: str
) -> tuple[Sequence[Score], ModelInfo]:
    engine = scoring.engine(given.model if model in ("", "default") else model)
    items = items_of(prompts, engine.info, field)
    options = replace(given.options, special_tokens=SpecialTokens.ADD)
    scores = await scoring.scores(request, Call(engine, items, options, names_of(prompts, field)))
    return scores, engine.info


def _embedding(score: Score, info: ModelInfo, encoding: Literal["float", "base64"]) -> list[float] | str:
    numbers = [value for _, value in head_outputs(score, info)]
    if encoding == "float":
        return numbers
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def _seconds(score: Score) -> float:
    timing = score.timing
    return timing.text_queue + timing.render + timing.encode + timing.queue + timing.forward
