"""What stands before every gRPC call: the token, and messages that can be read."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from rm_grpc import errors
from rm_grpc_server.transport.door.tokens import Tokens

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_OPEN_TO_ALL = "/grpc.health.v1.Health/"
"""Probes of orchestrators carry no token, and learn only whether the server is well."""


class Door(grpc.aio.ServerInterceptor):
    """Refuses callers without a token, and turns messages that are no messages into INVALID_ARGUMENT.

    grpc itself would answer the latter with UNKNOWN, as if the server were at fault.
    """

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = tokens
        self._guarded: dict[str, _Handler] = {}

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]], details: grpc.HandlerCallDetails
    ) -> _Handler | None:
        """See grpc."""
        method = str(details.method)
        if self._tokens is not None and not method.startswith(_OPEN_TO_ALL):
            try:
                self._tokens.check(_authorization(details))
            except errors.UnauthenticatedError as error:
                return _refusal(await continuation(details), error)
        if method not in self._guarded:
            handler = await continuation(details)
            if handler is None:  # no such method: grpc says so
                return handler
            self._guarded[method] = _guarded(handler)
        return self._guarded[method]


def _authorization(details: grpc.HandlerCallDetails) -> str | None:
    for key, value in details.invocation_metadata or ():
        if key == "authorization":
            return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return None


def _refusal(handler: _Handler | None, error: errors.RewardError) -> _Handler:
    async def refuse(request: object, context: Context) -> None:
        del request
        await abort(context, error)

    if handler is not None and handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)


def _guarded(handler: _Handler) -> _Handler:
    parse = handler.request_deserializer
    if parse is None:
        return handler

    def read(raw: bytes) -> Any:
        try:
            return parse(raw)
        except DecodeError as error:
            unreadable = errors.InvalidRequestError(f"the message is none of this method's: {error}")
            if handler.request_streaming:
                raise unreadable from error  # where the messages of the stream are read
            return unreadable

    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    behaviour = getattr(handler, kind)
    tells = _telling_generator if inspect.isasyncgenfunction(behaviour) else _telling
    guarded: _Handler = getattr(grpc, f"{kind}_rpc_method_handler")(tells(behaviour), read, handler.response_serializer)
    return guarded


def _telling(behaviour: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
    async def answer(request: Any, context: Context) -> Any:
        if isinstance(request, errors.RewardError):
            await abort(context, request)
        return await behaviour(request, context)

    return answer


def _telling_generator(behaviour: Callable[[Any, Context], AsyncIterator[Any]]) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
        if isinstance(request, errors.RewardError):
            await abort(context, request)
        try:
            async for response in behaviour(request, context):
                yield response
        except errors.RewardError as error:
            await abort(context, error)

    return answer


async def abort(context: Context, error: errors.RewardError) -> NoReturn:
    """Ends a call with the status that tells the error."""
    status = errors.to_status(error)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(error.code, status.message, trailing_metadata=details)
    raise AssertionError("abort raises")
