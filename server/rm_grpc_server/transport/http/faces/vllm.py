"""vLLM's /classify, /pooling, /score and /rerank, with raw scores unless a request asks for an activation.

Format: vllm/entrypoints/pooling of vLLM 0.33. Paths that SGLang and TEI have too are told apart by the body.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Discriminator, Field, Tag

from rm_grpc import errors
from rm_grpc.types import Activation, Item, ModelInfo, Score, SpecialTokens
from rm_grpc_server.transport.http.face import Asked, Body, Tongue, asked, conversation_of, exchange, face, refuse
from rm_grpc_server.transport.http.faces import sglang, tei
from rm_grpc_server.transport.http.inputs import Prompts, items_of, names_of, places
from rm_grpc_server.transport.http.numbers import activation, head_outputs, token_count
from rm_grpc_server.transport.http.scoring import Call, HttpScoring

_NO_EFFECT = "no effect here"
_WHOLE = "null or -1: a response is never cut"


class _Common(Body):
    model: str | None = None
    use_activation: bool | None = Field(None, description="apply the logistic function; raw by default")
    activation: bool | None = Field(None, description="the same, by its older name")
    softmax: bool | None = Field(None, description="the same, by its oldest name")
    truncate_prompt_tokens: int | None = Field(None, description=_WHOLE)
    truncation_side: Any = Field(None, description=_NO_EFFECT)
    request_id: str | None = None
    user: Any = Field(None, description=_NO_EFFECT)
    priority: Any = Field(None, description=_NO_EFFECT)
    cache_salt: Any = Field(None, description=_NO_EFFECT)

    @property
    def wants_activation(self) -> bool | None:
        return next((flag for flag in (self.use_activation, self.activation, self.softmax) if flag is not None), None)


class PromptsRequest(_Common):
    """What `/classify` and `/pooling` take: texts or token ids in `input`, or one conversation in `messages`."""

    input: Prompts | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = Field(
        None, description="put the tokenizer's own special tokens around text that does not begin with them; default true"
    )
    add_generation_prompt: bool = False
    continue_final_message: bool = False


class PoolingRequest(PromptsRequest):
    """What `/pooling` takes."""

    task: Literal["classify", "token_classify"] | None = None
    encoding_format: Literal["float"] = "float"
    embed_dtype: Any = Field(None, description=_NO_EFFECT)
    endianness: Any = Field(None, description=_NO_EFFECT)


Side = str | list[str]


class ScoreRequest(_Common):
    """What `/score` takes: prompts and the responses to them, as many or one prompt for all."""

    queries: Side | None = None
    documents: Side | None = None
    items: Side | None = None
    data_1: Side | None = None
    data_2: Side | None = None
    text_1: Side | None = None
    text_2: Side | None = None

    def sides(self) -> tuple[list[str], list[str]]:
        """The two sides, as many of one as of the other."""
        pairs = (
            (self.queries, self.documents),
            (self.queries, self.items),
            (self.data_1, self.data_2),
            (self.text_1, self.text_2),
        )
        found = next(((one, two) for one, two in pairs if one is not None and two is not None), None)
        if found is None:
            raise refuse("queries", "queries and documents are needed (or data_1 and data_2, or text_1 and text_2)")
        left, right = ([side] if isinstance(side, str) else side for side in found)
        if not left or not right:
            raise errors.EmptyBatchError("at least one text is needed", field="queries" if not left else "documents")
        if len(left) == 1:
            left = left * len(right)
        if len(left) != len(right):
            raise refuse("documents", f"input lengths must be 1:1, 1:N or N:N, and they are {len(left)}:{len(right)}")
        return left, right


class RerankRequest(_Common):
    """What `/rerank` takes: a prompt and responses to it."""

    query: str
    documents: str | list[str]
    top_n: int = Field(0, ge=0, description="how many of the best to tell; 0 is all")


def error_body(status: int, error: errors.RewardError) -> dict[str, Any]:
    """vLLM's error object."""
    names = {400: "BadRequestError", 404: "NotFoundError", 429: "TooManyRequestsError", 503: "Service Unavailable"}
    kind = names.get(status, "BadRequestError" if status < 500 else "InternalServerError")
    return {"error": {"message": error.message, "type": kind, "param": error.field or None, "code": status}}


ClassifyBody = Annotated[
    Annotated[PromptsRequest, Tag("vllm")] | Annotated[sglang.ClassifyRequest, Tag("sglang")],
    Discriminator(lambda body: "sglang" if isinstance(body, dict) and {"text", "input_ids"} & body.keys() else "vllm"),
]
RerankBody = Annotated[
    Annotated[RerankRequest, Tag("vllm")] | Annotated[tei.RerankRequest, Tag("tei")],
    Discriminator(lambda body: "tei" if isinstance(body, dict) and "texts" in body else "vllm"),
]


def routes(scoring: HttpScoring) -> APIRouter:
    """The routes."""
    router = face("vLLM", Tongue(error_body), scoring)

    async def scored(
        request: Request,
        given: Asked,
        body: _Common,
        items: Sequence[Item],
        names: Sequence[str],
        special: SpecialTokens = SpecialTokens.AS_IS,
    ) -> _Scored:
        if body.truncate_prompt_tokens not in (None, -1):
            raise refuse("truncate_prompt_tokens", "a response is never cut; leave it out, and what is too long is an error")
        engine = scoring.engine(body.model or given.model)
        applied = activation(body.wants_activation, "use_activation", engine.info)
        options = replace(given.options, activation=applied, special_tokens=special)
        scores = await scoring.scores(request, Call(engine, items, options, names))
        return _Scored(scores, engine.info, applied)

    async def prompts(request: Request, given: Asked, body: PromptsRequest) -> _Scored:
        """Scores of what `/classify` and `/pooling` take."""
        if (body.input is None) == (body.messages is None):
            raise refuse("input", "give input or messages")
        if body.add_generation_prompt or body.continue_final_message:
            field = "add_generation_prompt" if body.add_generation_prompt else "continue_final_message"
            raise refuse(field, "the model's own template ends the conversation; leave it out")
        if body.messages is not None:
            if body.add_special_tokens:
                raise refuse("add_special_tokens", "the chat template writes them, and they would be there twice; leave it out")
            return await scored(request, given, body, [Item("", conversation_of(body.messages))], ["messages"])
        assert body.input is not None
        items = items_of(body.input, scoring.engine(body.model or given.model).info, "input")
        special = SpecialTokens.AS_IS if body.add_special_tokens is False else SpecialTokens.ADD
        return await scored(request, given, body, items, names_of(body.input, "input"), special)

    async def pairs(request: Request, given: Asked, body: _Common, left: Sequence[str], right: Sequence[str]) -> _Scored:
        items = [Item("", exchange(prompt, response)) for prompt, response in zip(left, right, strict=True)]
        return await scored(request, given, body, items, places("documents", len(items)))

    @router.post("/classify")
    async def classify(request: Request, body: ClassifyBody, given: Annotated[Asked, Depends(asked)]) -> Any:
        """vLLM's classification, and SGLang's where the body has `text` or `input_ids`. `probs` holds the raw score."""
        if isinstance(body, sglang.ClassifyRequest):
            return await sglang.classified(scoring, request, body, given)
        found = await prompts(request, given, body)
        data = []
        for at, score in enumerate(found.scores):
            outputs = found.outputs(score)
            best = max(outputs, key=lambda output: output[1])
            numbers = [value for _, value in outputs]
            data.append({"index": at, "label": best[0], "probs": numbers, "num_classes": len(numbers), **_components(score)})
        return {**found.envelope("classify", body.request_id), "data": data}

    @router.post("/pooling")
    async def pooling(request: Request, body: PoolingRequest, given: Annotated[Asked, Depends(asked)]) -> dict[str, Any]:
        """The score of each conversation, or, for a model that scores steps, a list of one number for each step."""
        found = await prompts(request, given, body)
        scores_steps = any(score.steps for score in found.scores)
        if body.task == "token_classify" and not scores_steps:
            raise refuse("task", "token_classify is for models that score steps; this one gives one score: classify")
        if body.task != "classify" and scores_steps:
            if found.applied is not Activation.NONE:
                raise refuse("use_activation", "scores of steps are given as the model gives them; leave it out")
            values: list[Any] = [[[step.score] for step in score.steps] for score in found.scores]
        else:
            values = [[value for _, value in found.outputs(score)] for score in found.scores]
        data = [
            {"index": at, "object": "pooling", "data": value, **_components(score)}
            for at, (value, score) in enumerate(zip(values, found.scores, strict=True))
        ]
        return {**found.envelope("pooling", body.request_id), "data": data}

    @router.post("/score")
    @router.post("/v1/score", include_in_schema=False)
    async def score(request: Request, body: ScoreRequest, given: Annotated[Asked, Depends(asked)]) -> dict[str, Any]:
        """The score of each response to its prompt, as a conversation of the two."""
        found = await pairs(request, given, body, *body.sides())
        data = [{"index": at, "object": "score", "score": one.score} for at, one in enumerate(found.scores)]
        return {**found.envelope("score", body.request_id), "data": data}

    @router.post("/rerank")
    @router.post("/v1/rerank", include_in_schema=False)
    @router.post("/v2/rerank", include_in_schema=False)
    async def rerank(request: Request, body: RerankBody, given: Annotated[Asked, Depends(asked)]) -> Any:
        """Responses to a prompt, the best first. TEI's form where the body has `texts`."""
        if isinstance(body, tei.RerankRequest):
            return await tei.reranked(scoring, request, body, given)
        documents = [body.documents] if isinstance(body.documents, str) else body.documents
        if not documents:
            raise errors.EmptyBatchError("nothing to rank", field="documents")
        found = await pairs(request, given, body, [body.query] * len(documents), documents)
        ranked = sorted(range(len(documents)), key=lambda at: -found.scores[at].score)
        results = [
            {"index": at, "document": {"text": documents[at]}, "relevance_score": found.scores[at].score}
            for at in ranked[: body.top_n or None]
        ]
        named = found.envelope("rerank", body.request_id)
        return {"id": named["id"], "model": named["model"], "usage": named["usage"], "results": results}

    return router


@dataclass(frozen=True, slots=True)
class _Scored:
    scores: Sequence[Score]
    info: ModelInfo
    applied: Activation

    def outputs(self, score: Score) -> list[tuple[str, float]]:
        return head_outputs(score, self.info)

    def envelope(self, prefix: str, request_id: str | None) -> dict[str, Any]:
        read = token_count(self.scores)
        usage = {"prompt_tokens": read, "total_tokens": read, "completion_tokens": 0, "prompt_tokens_details": None}
        name = f"{prefix}-{request_id or uuid.uuid4().hex}"
        return {"id": name, "object": "list", "created": int(time.time()), "model": self.info.name, "usage": usage}


def _components(score: Score) -> dict[str, Any]:
    """What a model gives beside the score, which vLLM's format has no place for."""
    return {"attributes": dict(score.attributes)} if score.attributes else {}
