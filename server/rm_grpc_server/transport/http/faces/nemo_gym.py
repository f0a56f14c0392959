"""NeMo-Gym's resources servers: /verify for one response, /compare for several.

Format: NVIDIA-NeMo/Gym, nemo_gym/base_resources_server.py and resources_servers/genrm_compare. An agent forwards its dataset's
columns beside the known fields, and wants what it sent back in the answer.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict

from rm_grpc import errors
from rm_grpc.types import Conversation, Item, Message
from rm_grpc_server.transport.http.face import Asked, Tongue, asked, conversation_of, face, refuse
from rm_grpc_server.transport.http.inputs import places
from rm_grpc_server.transport.http.scoring import Call, HttpScoring


class VerifyRequest(BaseModel):
    """What `/verify` takes: the request to the policy, its response, and any column of the dataset (metadata of the item)."""

    model_config = ConfigDict(extra="allow")

    responses_create_params: dict[str, Any]
    response: dict[str, Any]


class CompareRequest(BaseModel):
    """What `/compare` takes."""

    model_config = ConfigDict(extra="allow")

    conversation_history: list[dict[str, Any]]
    response_objs: list[dict[str, Any]]
    principle: str | None = None


def _error_body(status: int, error: errors.RewardError) -> dict[str, Any]:
    del status
    return {"detail": [{"type": error.reason.lower(), "loc": ["body", *filter(None, [error.field])], "msg": error.message}]}


def routes(scoring: HttpScoring) -> APIRouter:
    """The routes. A response that cannot be scored is an error: the format's own way would give it the reward 0."""
    router = face("NeMo-Gym", Tongue(_error_body), scoring)

    @router.post("/verify")
    async def verify(request: Request, body: VerifyRequest, given: Annotated[Asked, Depends(asked)]) -> dict[str, Any]:
        """Scores the response to the request."""
        engine = scoring.engine(given.model)
        prompt = _prompt(body.responses_create_params)
        item = Item("", Conversation((*prompt, _response(body.response, "response"))), metadata=body.model_extra or {})
        [score] = await scoring.scores(request, Call(engine, [item], given.options, ["response"]))
        components = dict(score.attributes)
        told = {"reward_components": components} if components else {}
        return {**body.model_dump(), **components, **told, "reward": score.score, "model_digest": score.model_digest}

    @router.post("/seed_session", include_in_schema=False)
    async def seed_session() -> dict[str, Any]:
        return {}

    @router.post("/compare")
    async def compare(request: Request, body: CompareRequest, given: Annotated[Asked, Depends(asked)]) -> dict[str, Any]:
        """Scores several responses to one conversation, each by itself: there are no comparisons to tell of."""
        engine = scoring.engine(given.model)
        prompt = conversation_of(body.conversation_history, field="conversation_history").messages
        metadata = {} if body.principle is None else {"principle": body.principle}
        items = [
            Item("", Conversation((*prompt, _response(one, f"response_objs[{at}]"))), metadata=metadata)
            for at, one in enumerate(body.response_objs)
        ]
        call = Call(engine, items, given.options, places("response_objs", len(items)))
        scores = await scoring.scores(request, call) if items else []
        return {"rewards": [score.score for score in scores], "comparison_results": None, "metrics": None}

    return router


def _prompt(params: dict[str, Any]) -> tuple[Message, ...]:
    """The messages of a Responses request."""
    given = params.get("input")
    instructions = params.get("instructions")
    opening = (Message("system", instructions),) if isinstance(instructions, str) and instructions else ()
    if isinstance(given, str):
        return (*opening, Message("user", given))
    if not isinstance(given, list):
        raise refuse("responses_create_params.input", "must be text or a list of messages")
    return (*opening, *_messages(given, "responses_create_params.input"))


def _messages(items: list[Any], field: str) -> list[Message]:
    """The messages among the items of the Responses format, without the reasoning between them."""
    messages: list[Message] = []
    for at, item in enumerate(items):
        if not isinstance(item, dict) or item.get("type", "message") not in ("message", "reasoning"):
            raise errors.UnsupportedContentError(
                "only messages can be scored in this form; tool calls go by /v1/score_batch or gRPC", field=f"{field}[{at}]"
            )
        if item.get("type") != "reasoning":
            messages.append(Message(str(item.get("role", "")), _text(item.get("content"), f"{field}[{at}].content")))
    return messages


def _response(response: dict[str, Any], field: str) -> Message:
    """The text that a response says, without its reasoning."""
    output = response.get("output")
    if not isinstance(output, list):
        raise refuse(f"{field}.output", "must be a list of what the model gave")
    said = [message.text for message in _messages(output, f"{field}.output")]
    if not said:
        raise errors.NoResponseError(
            "the response says nothing that could be scored: it has no message", field=f"{field}.output"
        )
    return Message("assistant", "".join(said))


def _text(content: Any, field: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise errors.UnsupportedContentError("must be text or a list of text parts", field=field)
    texts = []
    for at, part in enumerate(content):
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            raise errors.UnsupportedContentError("only text can be scored", field=f"{field}[{at}]")
        texts.append(text)
    return "".join(texts)
