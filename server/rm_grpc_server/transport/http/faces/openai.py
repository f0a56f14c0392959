"""OpenAI chat completions, the way NVIDIA NIM serves reward models: the score is the assistant's answer.

Format: docs.nvidia.com/nim/large-language-models, "reward model"; the logprobs are what NeMo-Curator reads.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from rm_grpc import errors
from rm_grpc.types import Item, ModelInfo, Score
from rm_grpc_server.transport.http.face import Asked, Body, Tongue, asked, conversation_of, face, refuse
from rm_grpc_server.transport.http.numbers import plain, token_count
from rm_grpc_server.transport.http.scoring import Call, HttpScoring

_NO_EFFECT = "no effect: nothing is generated"
_REWARD = "reward"


class ChatCompletionRequest(Body):
    """What `POST /v1/chat/completions` takes; `messages` end with the response to score."""

    messages: list[dict[str, Any]]
    model: str = ""
    tools: list[dict[str, Any]] | None = None
    n: int | None = Field(None, description="1: there is one score")
    stream: bool | None = Field(None, description="false: the answer is one number; /v1/score_batch streams")
    metadata: dict[str, Any] | None = Field(None, description="for scorers that read more than the conversation")
    frequency_penalty: Any = Field(None, description=_NO_EFFECT)
    logit_bias: Any = Field(None, description=_NO_EFFECT)
    logprobs: Any = Field(None, description="no effect: they are always there")
    max_completion_tokens: Any = Field(None, description=_NO_EFFECT)
    max_tokens: Any = Field(None, description=_NO_EFFECT)
    parallel_tool_calls: Any = Field(None, description=_NO_EFFECT)
    presence_penalty: Any = Field(None, description=_NO_EFFECT)
    response_format: Any = Field(None, description=_NO_EFFECT)
    seed: Any = Field(None, description=_NO_EFFECT)
    service_tier: Any = Field(None, description=_NO_EFFECT)
    stop: Any = Field(None, description=_NO_EFFECT)
    store: Any = Field(None, description=_NO_EFFECT)
    stream_options: Any = Field(None, description=_NO_EFFECT)
    temperature: Any = Field(None, description=_NO_EFFECT)
    tool_choice: Any = Field(None, description=_NO_EFFECT)
    top_logprobs: Any = Field(None, description=_NO_EFFECT)
    top_p: Any = Field(None, description=_NO_EFFECT)
    user: Any = Field(None, description=_NO_EFFECT)


_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_body(status: int, error: errors.RewardError) -> dict[str, Any]:
    """OpenAI's error object; `code` is our reason in lower case, but for the two that clients look for."""
    code = {"CONVERSATION_TOO_LONG": "context_length_exceeded", "MODEL_NOT_FOUND": "model_not_found"}
    told = {
        "message": error.message,
        "type": _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
        "param": error.field or None,
        "code": code.get(error.reason, error.reason.lower()),
    }
    return {"error": told}


def routes(scoring: HttpScoring) -> APIRouter:
    """The routes."""
    router = face("OpenAI", Tongue(error_body), scoring)

    @router.post("/v1/chat/completions")
    async def chat_completions(
        request: Request, body: ChatCompletionRequest, given: Annotated[Asked, Depends(asked)]
    ) -> dict[str, Any]:
        """Scores one conversation. The content is `reward:-3.28125`, with `name:number` pairs before it for models that give
        several; the logprobs hold the same numbers.
        """
        if body.stream:
            raise refuse("stream", "a score is one number and is not streamed; leave it out, or use /v1/score_batch")
        if body.n not in (None, 1):
            raise refuse("n", "there is one score for a conversation; leave it out")
        engine = scoring.engine(body.model or given.model)
        tools = json.dumps(body.tools) if body.tools else ""
        item = Item("", conversation_of(body.messages, tools=tools), metadata=body.metadata or {})
        [score] = await scoring.scores(request, Call(engine, [item], given.options, ["messages"]))
        return _completion(score, engine.info.name)

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """The models that are served."""
        return {"object": "list", "data": [_model(engine.info) for engine in scoring.engines.values()]}

    @router.get("/v1/models/{name:path}")
    async def get_model(name: str) -> dict[str, Any]:
        """One model."""
        return _model(scoring.engine(name).info)

    return router


def _completion(score: Score, model: str) -> dict[str, Any]:
    numbers = _named_numbers(score)
    content: list[dict[str, Any]] = [
        {"token": name, "logprob": value, "bytes": None, "top_logprobs": []} for name, value in numbers.items()
    ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": ",".join(f"{name}:{plain(value)}" for name, value in numbers.items())},
        "logprobs": {"content": content},
        "finish_reason": "stop",
    }
    read = token_count([score])
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": {"prompt_tokens": read, "completion_tokens": 0, "total_tokens": read},
        "system_fingerprint": score.model_digest,
    }


def _named_numbers(score: Score) -> Mapping[str, float]:
    """Attributes and the reward, under names that the format can carry."""
    names = {name.replace(":", "_").replace(",", "_"): value for name, value in score.attributes.items()}
    return names if _REWARD in names else {**names, _REWARD: score.score}


def _model(info: ModelInfo) -> dict[str, Any]:
    return {
        "id": info.name,
        "object": "model",
        "created": 0,
        "owned_by": "rm-grpc",
        "root": info.source,
        "parent": None,
        "max_model_len": info.limits.max_length or None,
        "permission": [],
        "scorer_kind": info.scorer_kind,
        "model_digest": info.model_digest,
    }
