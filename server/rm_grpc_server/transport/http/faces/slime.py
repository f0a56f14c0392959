"""slime's remote reward model (`--rm-type remote_rm --rm-url`).

Format: THUDM/slime, slime/rollout/rm_hub. The whole answer becomes the sample's reward.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from rm_grpc import rendered
from rm_grpc.types import Conversation, Item, Message
from rm_grpc_server.transport.http.face import Asked, Body, asked, conversation_of, exchange, face
from rm_grpc_server.transport.http.faces.openrlhf import Unrender
from rm_grpc_server.transport.http.faces.own import TONGUE
from rm_grpc_server.transport.http.scoring import Call, HttpScoring


class RemoteRewardRequest(Body):
    """What slime posts for each sample."""

    prompt: str | list[dict[str, Any]]
    response: str
    label: Any = Field(None, description="the reference, for scorers that read it (metadata label)")


def routes(scoring: HttpScoring) -> APIRouter:
    """The routes."""
    router = face("slime", TONGUE, scoring)

    @router.post("/slime", response_model=None)
    async def slime(
        request: Request,
        body: RemoteRewardRequest,
        given: Annotated[Asked, Depends(asked)],
        unrender: Unrender = False,
        answer: Annotated[
            Literal["number", "object"], Query(description="object for runs with --reward-key: score, and each component")
        ] = "number",
    ) -> float | dict[str, float]:
        """Scores one sample. With `--apply-chat-template` the prompt is rendered: `?unrender=true` takes its messages out."""
        engine = scoring.engine(given.model)
        metadata = {} if body.label is None else {"label": body.label}
        item = Item("", _conversation(body, unrender), metadata=metadata)
        [score] = await scoring.scores(request, Call(engine, [item], given.options, ["response"]))
        return score.score if answer == "number" else {**score.attributes, "score": score.score}

    return router


def _conversation(body: RemoteRewardRequest, unrender: bool) -> Conversation:
    if not isinstance(body.prompt, str):
        opening = conversation_of(body.prompt, field="prompt").messages
        response = rendered.without_end(body.response) if unrender else body.response
        return Conversation((*opening, Message("assistant", response)))
    return rendered.rollout_of(body.prompt, body.response) if unrender else exchange(body.prompt, body.response)
