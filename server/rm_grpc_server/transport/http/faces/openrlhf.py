"""OpenRLHF's reward server (`remote_rm_url`).

Format: OpenRLHF 0.5 to 0.11, cli/serve_rm.py and trainer/ppo_utils. A query is prompt and response in one text, with the
policy's template and its special tokens. The client reads no error body and tries again whatever the status.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from rm_grpc import rendered
from rm_grpc.types import Item, Score
from rm_grpc_server.transport.http.face import Asked, Body, asked, face, refuse
from rm_grpc_server.transport.http.faces.own import TONGUE
from rm_grpc_server.transport.http.inputs import places
from rm_grpc_server.transport.http.scoring import Call, HttpScoring


class GetRewardRequest(Body):
    """What `/get_reward` takes."""

    query: list[str] = Field(description="prompt and response in one text, rendered with the policy's template")
    prompts: list[Any] | None = Field(None, description="the prompts alone; no effect: they are found in the query")
    labels: list[Any] | None = Field(None, description="references, for scorers that read them (metadata label)")


Unrender = Annotated[
    bool,
    Query(description="take the messages out of the policy's template, and have this model's own write them"),
]


def routes(scoring: HttpScoring) -> APIRouter:
    """The routes."""
    router = face("OpenRLHF", TONGUE, scoring)

    @router.post("/get_reward")
    async def get_reward(
        request: Request, body: GetRewardRequest, given: Annotated[Asked, Depends(asked)], unrender: Unrender = False
    ) -> dict[str, Any]:
        """Scores texts as they were rendered, or, with `?unrender=true`, the messages in them."""
        engine = scoring.engine(given.model)
        labels = body.labels or [None] * len(body.query)
        if len(labels) != len(body.query):
            raise refuse("labels", f"{len(labels)} labels for {len(body.query)} queries")
        items = [
            Item("", rendered.conversation_of(text) if unrender else text, metadata={} if label is None else {"label": label})
            for text, label in zip(body.query, labels, strict=True)
        ]
        call = Call(engine, items, given.options, places("query", len(items)))
        scores = await scoring.scores(request, call) if items else []
        rewards = [score.score for score in scores]
        return {"rewards": rewards, "scores": rewards, "extra_logs": _logs(scores)}

    return router


def _logs(scores: list[Score]) -> dict[str, list[float]]:
    """Numbers beside the reward, a list each; only those that every sample has."""
    counts = Counter(name for score in scores for name in score.attributes)
    return {name: [score.attributes[name] for score in scores] for name, count in counts.items() if count == len(scores)}
