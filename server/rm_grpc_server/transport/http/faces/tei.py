"""Text-embeddings-inference: /predict, /rerank and /info, with raw scores unless `raw_scores` is false.

Format: huggingface/text-embeddings-inference, router/src/http. Two texts in one list are a pair, not two conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Annotated, Any

import grpc
from fastapi import APIRouter, Depends, Request
from pydantic import Field

from rm_grpc import errors
from rm_grpc.types import Item, SpecialTokens
from rm_grpc_server.transport.http.face import Asked, Body, Tongue, answer_in, asked, exchange, face, refuse
from rm_grpc_server.transport.http.inputs import places
from rm_grpc_server.transport.http.numbers import activation, head_outputs
from rm_grpc_server.transport.http.scoring import Call, HttpScoring
from rm_grpc_server.transport.http.statuses import status_of

_CUT = "accepted; a response is never cut, and what is too long is an error all the same"


class PredictRequest(Body):
    """What `/predict` takes: a text, a list of one text, a pair of prompt and response, or a list of such lists."""

    inputs: str | list[str] | list[list[str]]
    raw_scores: bool = Field(True, description="false applies the logistic function")
    truncate: bool | None = Field(None, description=_CUT)
    truncation_direction: Any = Field(None, description=_CUT)


class RerankRequest(Body):
    """What `/rerank` takes in TEI's form."""

    query: str
    texts: list[str]
    raw_scores: bool = Field(True, description="false applies the logistic function")
    return_text: bool = False
    truncate: bool | None = Field(None, description=_CUT)
    truncation_direction: Any = Field(None, description=_CUT)


def _kind(error: errors.RewardError) -> str:
    if isinstance(error, errors.EmptyBatchError):
        return "Empty"
    kinds = {
        grpc.StatusCode.RESOURCE_EXHAUSTED: "Overloaded",
        grpc.StatusCode.UNAVAILABLE: "Unhealthy",
        grpc.StatusCode.INTERNAL: "Backend",
        grpc.StatusCode.DEADLINE_EXCEEDED: "Backend",
    }
    return kinds.get(error.code, "Validation")


def _status(error: errors.RewardError) -> int:
    """TEI's statuses: 422 for what is wrong with a text, 424 for a failure of the model."""
    if isinstance(error, (errors.EmptyBatchError, errors.MessageTooLargeError, errors.ModelNotFoundError)):
        return status_of(error)
    return {"Validation": 422, "Backend": 424}.get(_kind(error), status_of(error))


TONGUE = Tongue(lambda _, error: {"error": str(error), "error_type": _kind(error)}, _status)


def routes(scoring: HttpScoring) -> APIRouter:
    """The routes; `/rerank` itself is with vLLM's."""
    router = face("TEI", TONGUE, scoring)

    @router.post("/predict")
    async def predict(request: Request, body: PredictRequest, given: Annotated[Asked, Depends(asked)]) -> Any:
        """The score of a text, or of each of several, as a list of labels with their numbers, the largest first."""
        is_batch = isinstance(body.inputs, list) and bool(body.inputs) and isinstance(body.inputs[0], list)
        rows: Sequence[Any] = body.inputs if is_batch else [body.inputs]
        names = places("inputs", len(rows)) if is_batch else ["inputs"]
        items = [_item(row, name) for row, name in zip(rows, names, strict=True)]
        engine = scoring.engine(given.model)
        applied = activation(not body.raw_scores, "raw_scores", engine.info)
        options = replace(given.options, activation=applied, special_tokens=SpecialTokens.ADD)
        scores = await scoring.scores(request, Call(engine, items, options, names))
        answers = [
            [
                {"score": value, "label": label}
                for label, value in sorted(head_outputs(score, engine.info), key=lambda output: output[1])[::-1]
            ]
            for score in scores
        ]
        return answers if is_batch else answers[0]

    @router.get("/info")
    async def info(given: Annotated[Asked, Depends(asked)]) -> dict[str, Any]:
        """What is served."""
        told = scoring.engine(given.model).info
        labels = {str(at): name for at, name in enumerate(told.attribute_names or ("LABEL_0",))}
        kind = {"id2label": labels, "label2id": {name: int(at) for at, name in labels.items()}}
        return {
            "model_id": told.source,
            "model_sha": told.revision or None,
            "model_dtype": told.dtype,
            "served_model_name": told.name,
            "model_type": {"reranker" if len(labels) == 1 else "classifier": kind},
            "max_input_length": told.limits.max_length,
            "max_client_batch_size": told.limits.window_items,
            "auto_truncate": False,
            "version": version("rm-grpc"),
            "model_digest": told.model_digest,
        }

    return router


async def reranked(scoring: HttpScoring, request: Request, body: RerankRequest, given: Asked) -> list[dict[str, Any]]:
    """TEI's answer to `/rerank`."""
    answer_in(request, TONGUE)
    if not body.texts:
        raise errors.EmptyBatchError("`texts` cannot be empty", field="texts")
    engine = scoring.engine(given.model)
    options = replace(given.options, activation=activation(not body.raw_scores, "raw_scores", engine.info))
    items = [Item("", exchange(body.query, text)) for text in body.texts]
    scores = await scoring.scores(request, Call(engine, items, options, places("texts", len(items))))
    ranked = sorted(range(len(scores)), key=lambda at: (-scores[at].score, -at))  # as TEI has equals
    return [{"index": at, **({"text": body.texts[at]} if body.return_text else {}), "score": scores[at].score} for at in ranked]


def _item(row: str | list[str], field: str) -> Item:
    if isinstance(row, str):
        return Item("", row)
    if len(row) == 1:
        return Item("", row[0])
    if len(row) == 2:
        return Item("", exchange(*row))
    raise refuse(field, f"a list of {len(row)} texts; one is a text, two are a pair, and several take a list each")
