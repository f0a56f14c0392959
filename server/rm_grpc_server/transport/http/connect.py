"""The contract itself over HTTP/1.1, in the Connect protocol: for browsers, which cannot speak gRPC, and for curl.

Source of the format: https://connectrpc.com/docs/protocol. Unary methods and ScoreEach; ScoreBatch streams both ways, for which
browsers have no way.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from rm_grpc import errors
from rm_grpc.v1 import reward_service_pb2
from rm_grpc_server.transport.http.face import Tongue, face
from rm_grpc_server.transport.http.scoring import HttpScoring, while_connected

_M = TypeVar("_M", bound=Message)
_SERVICE = "/rm_grpc.v1.RewardService"
_UNARY, _STREAM = "application/", "application/connect+"
_ENVELOPE = struct.Struct(">BI")
"""Before each message of a stream: flags, and the message's length."""
_COMPRESSED, _END = 1, 2
_CODES = {grpc.StatusCode.CANCELLED: "canceled"}
"""Connect's names of codes are gRPC's in lower case, but for this one."""


def _error_body(error: errors.RewardError) -> dict[str, Any]:
    status = errors.to_status(error)
    details = [
        {"type": detail.type_url.rpartition("/")[2], "value": base64.b64encode(detail.value).decode().rstrip("=")}
        for detail in status.details
    ]
    return {"code": _CODES.get(error.code, error.code.name.lower()), "message": status.message, "details": details}


class _StreamTongue(Tongue):
    """A stream's status is always 200; how it ended stands in its last message."""

    def answer(self, error: errors.RewardError) -> Response:
        """See `Tongue`."""
        return Response(_ended(error), media_type=_STREAM + "proto")


_TONGUE = Tongue(lambda _, error: _error_body(error))
_STREAM_TONGUE = _StreamTongue(_TONGUE.error_body)


def routes(scoring: HttpScoring) -> APIRouter:
    """The routes."""
    calls = scoring.calls
    unary, stream = face("connect", _TONGUE, scoring), face("connect", _STREAM_TONGUE, scoring)

    def serve(method: str, kind: type[_M], call: Callable[[_M, float | None], Awaitable[Message]]) -> None:
        async def answer(request: Request) -> Response:
            codec = _codec(request, _UNARY)
            asked = _parsed(kind, await request.body(), codec)
            timeout = _timeout(request)
            with calls.drain.call():
                answered = await while_connected(request, call(asked, timeout))
            return Response(_written(answered, codec), media_type=_UNARY + codec)

        unary.add_api_route(f"{_SERVICE}/{method}", answer, methods=["POST"], include_in_schema=False)

    serve("Score", reward_service_pb2.ScoreRequest, calls.score)
    serve("ListModels", reward_service_pb2.ListModelsRequest, lambda asked, _: calls.list_models(asked))
    serve("GetModel", reward_service_pb2.GetModelRequest, lambda asked, _: calls.get_model(asked))
    serve("Tokenize", reward_service_pb2.TokenizeRequest, lambda asked, _: calls.tokenize(asked))

    @stream.post(f"{_SERVICE}/ScoreEach", include_in_schema=False)
    async def score_each(request: Request) -> StreamingResponse:
        codec = _codec(request, _STREAM)
        asked = _parsed(reward_service_pb2.ScoreEachRequest, _only_message(await request.body()), codec)
        responses = calls.score_each(asked, _timeout(request))

        async def told() -> AsyncIterator[bytes]:
            with calls.drain.call():
                async for message in _enveloped(responses, codec):
                    yield message

        return StreamingResponse(told(), media_type=_STREAM + codec)

    unary.include_router(stream)
    return unary


async def _enveloped(responses: AsyncGenerator[Message, None], codec: str) -> AsyncIterator[bytes]:
    try:
        async with aclosing(responses):
            async for response in responses:
                payload = _written(response, codec)
                yield _ENVELOPE.pack(0, len(payload)) + payload
    except errors.RewardError as error:
        yield _ended(error)
    else:
        yield _ended(None)


def _ended(error: errors.RewardError | None) -> bytes:
    payload = json.dumps({} if error is None else {"error": _error_body(error)}).encode()
    return _ENVELOPE.pack(_END, len(payload)) + payload


def _codec(request: Request, prefix: str) -> str:
    """proto or json.

    Raises:
        InvalidRequestError: the request is in neither, or compressed.
    """
    version = request.headers.get("connect-protocol-version", "1")
    if version != "1":
        raise errors.InvalidRequestError(f"this server speaks version 1, not {version!r}", field="connect-protocol-version")
    encoding = request.headers.get("content-encoding") or request.headers.get("connect-content-encoding") or "identity"
    if encoding != "identity":
        raise errors.InvalidRequestError(f"send it as it is, not as {encoding!r}", field="content-encoding")
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    codec = given.removeprefix(prefix)
    if not given.startswith(prefix) or codec not in ("proto", "json"):
        raise errors.InvalidRequestError(f"must be {prefix}proto or {prefix}json, not {given!r}", field="content-type")
    return codec


def _timeout(request: Request) -> float | None:
    given = request.headers.get("connect-timeout-ms")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 10):
        raise errors.InvalidRequestError(f"must be up to ten digits, not {given[:40]!r}", field="connect-timeout-ms")
    return int(given) / 1000


def _only_message(body: bytes) -> bytes:
    """The one message of a stream from the client."""
    if len(body) < _ENVELOPE.size:
        raise errors.InvalidRequestError("the body ends before its message begins")
    flags, length = _ENVELOPE.unpack_from(body)
    if flags & _COMPRESSED:
        raise errors.InvalidRequestError("the message is compressed; send it as it is")
    if flags or length != len(body) - _ENVELOPE.size:
        raise errors.InvalidRequestError("the body must be one message, behind a byte 0 and its length in four bytes")
    return body[_ENVELOPE.size :]


def _parsed(kind: type[_M], body: bytes, codec: str) -> _M:
    try:
        return kind.FromString(body) if codec == "proto" else json_format.Parse(body, kind())
    except (DecodeError, json_format.ParseError, UnicodeDecodeError) as error:
        raise errors.InvalidRequestError(f"the body is no {kind.DESCRIPTOR.full_name}: {str(error)[:300]}") from error


def _written(message: Message, codec: str) -> bytes:
    return message.SerializeToString() if codec == "proto" else json_format.MessageToJson(message, indent=None).encode()
