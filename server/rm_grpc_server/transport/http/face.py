"""A face: routes that speak as another server does, its errors too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticSerializationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rm_grpc.errors import DrainingError, InternalError, InvalidRequestError, RewardError
from rm_grpc.types import ControlTokens, Conversation, ForeignMarkers, Message, ScoreOptions
from rm_grpc_server.transport.http.scoring import HttpScoring
from rm_grpc_server.transport.http.statuses import headers_of, invalid, status_of

_LOG = logging.getLogger(__name__)
_CLIENT_IS_GONE = 499
_TONGUE = "rm_grpc.tongue"


class Body(BaseModel):
    """A request's body. A field that a face does not know is refused: it could change the number."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


@dataclass(frozen=True, slots=True)
class Tongue:
    """How a face tells errors."""

    error_body: Callable[[int, RewardError], dict[str, Any]]
    """What is written of an error, given its status."""
    status_of: Callable[[RewardError], int] = status_of

    def answer(self, error: RewardError) -> Response:
        """What a request gets that failed."""
        status = self.status_of(error)
        return JSONResponse(self.error_body(status, error), status, headers_of(error))


class FaceRoute(APIRoute):
    """A route whose every failure leaves in its face's shape."""

    tongue: Tongue
    scoring: HttpScoring

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()
        words = _query_words(self.dependant)

        async def answered(request: Request) -> Response:
            try:
                if self.scoring.tokens is not None:
                    self.scoring.tokens.check(request.headers.get("authorization"))
                _check_query(request, words)
                with self.scoring.bodies.limited(request) as limited:
                    return await handle(limited)
            except RewardError as error:
                failure = error
            except RequestValidationError as fault:
                failure = invalid(fault)
            except HTTPException as error:
                failure = _cause(error)
            except (PydanticSerializationError, UnicodeEncodeError, RecursionError) as error:
                # Formats that send back what they were sent meet it here.
                failure = InvalidRequestError(f"the body holds what an answer cannot: {error}")
            except asyncio.CancelledError:
                failure = DrainingError("the server stopped before the request was answered", retry_delay=1.0)
            except ClientDisconnect:
                return Response(status_code=_CLIENT_IS_GONE)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer in the face's shape
                _LOG.exception("a request failed")
                failure = InternalError(f"the request failed: {type(error).__name__}")
            tongue: Tongue = request.scope.get(_TONGUE, self.tongue)
            return tongue.answer(failure)

        return answered


def face(name: str, tongue: Tongue, scoring: HttpScoring) -> APIRouter:
    """A router of one face.

    Args:
        name: of the face, in the OpenAPI description.
    """
    members = {"tongue": tongue, "scoring": scoring}
    return APIRouter(route_class=type("FaceRoute", (FaceRoute,), members), tags=[name])


def answer_in(request: Request, tongue: Tongue) -> None:
    """Has this request's errors told as another face does, where two share a path."""
    request.scope[_TONGUE] = tongue


@dataclass(frozen=True, slots=True)
class Asked:
    """What any request may say in its query, for faces whose body has no place for it."""

    model: str
    options: ScoreOptions


def asked(
    request: Request,
    model: Annotated[str, Query(description="the model, where the body does not name it")] = "",
    control_tokens: Annotated[ControlTokens, Query(description="control tokens inside content")] = ControlTokens.REFUSE,
    foreign_markers: Annotated[
        ForeignMarkers, Query(description="chat markers of another model inside content")
    ] = ForeignMarkers.REFUSE,
) -> Asked:
    """The query's part of a request; a path of the form /models/NAME/... names the model too."""
    named = request.scope.get("rm_grpc.model", "")
    return Asked(model or named, ScoreOptions(control_tokens, foreign_markers))


def _query_words(dependant: Dependant) -> set[str]:
    """What a route reads of the query."""
    words = {word.alias for word in dependant.query_params}
    return words.union(*(_query_words(one) for one in dependant.dependencies))


def _check_query(request: Request, words: set[str]) -> None:
    if unknown := sorted(set(request.query_params) - words):
        raise InvalidRequestError(
            f"no such word in the query; there are {', '.join(sorted(words)) or 'none'}", field=unknown[0]
        )


def _cause(error: HTTPException) -> RewardError:
    """FastAPI wraps what it meets while it reads a body."""
    return error.__cause__ if isinstance(error.__cause__, RewardError) else InvalidRequestError(str(error.detail))


def conversation_of(messages: Sequence[Any], *, tools: str = "", field: str = "messages") -> Conversation:
    """Chat messages in the OpenAI shape.

    Raises:
        InvalidRequestError: they are not; its field names the place.
    """
    try:
        return Conversation.from_openai(messages, tools=tools)
    except RewardError as error:
        raise error.at(field + error.field.removeprefix("messages")) from error


def exchange(prompt: str, response: str) -> Conversation:
    """A prompt and a response to it."""
    return Conversation((Message("user", prompt), Message("assistant", response)))


def refuse(field: str, message: str) -> InvalidRequestError:
    """An error that names a field."""
    return InvalidRequestError(message, field=field)
