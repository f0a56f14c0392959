"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar, cast, overload

import grpc

from rm_grpc import convert, errors
from rm_grpc.types import ModelInfo, Result, Score, ScoreOptions, TokenizeResult
from rm_grpc.v1 import reward_service_pb2, reward_service_pb2_grpc
from rm_grpc_client.channel import MAX_MESSAGE_BYTES, open_channel
from rm_grpc_client.failures import BatchFailedError
from rm_grpc_client.inputs import Scorable, item_of
from rm_grpc_client.ordering import ORDERINGS, Ordering
from rm_grpc_client.security import Security
from rm_grpc_client.session import Session
from rm_grpc_client.stream import ScoreStream, typed

if TYPE_CHECKING:
    from rm_grpc_client.stream import Stub

_R = TypeVar("_R")
_T = TypeVar("_T")


class AsyncRewardClient:
    """Scores conversations with a reward service.

    Args:
        address: host:port of the server.
        model: the model to ask; may be empty where the server serves only one.
        options: how items are scored, for example what is done with control tokens inside content.
        timeout: seconds that each item may take; an item's own timeout wins. None waits for ever.
        reconnect: seconds without any answer after which a lost server is given up.
        attempts: how often an item is tried that the server has no room for.
        ordering: of a stream's results: by "completion", or by "submission".
        security: encryption, and the token that the server asks for.

    A client may be used by many tasks at once. Close it, or use it with `async with`.

    Raises:
        InvalidRequestError: an argument cannot be.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str = "",
        options: ScoreOptions | None = None,
        timeout: float | None = 600.0,
        reconnect: float = 60.0,
        attempts: int = 20,
        ordering: Ordering = "completion",
        security: Security | None = None,
    ) -> None:
        self.address = address
        self.model = model
        self.options = options or ScoreOptions()
        self.timeout = timeout
        self.reconnect = reconnect
        self.attempts = attempts
        self.security = security or Security()
        if ordering not in ORDERINGS:
            raise errors.InvalidRequestError(f"must be one of {', '.join(ORDERINGS)}, not {ordering!r}", field="ordering")
        self._in_order = ordering == "submission"
        self.channel = open_channel(address, self.security)
        self._stub = cast("Stub", reward_service_pb2_grpc.RewardServiceStub(self.channel))

    async def __aenter__(self) -> AsyncRewardClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; streams in work end with an error."""
        await self.channel.close()

    @overload
    async def score(
        self, conversations: Iterable[Scorable], *, timeout: float | None = ..., on_error: Literal["raise"] = ...
    ) -> list[Score]: ...

    @overload
    async def score(
        self, conversations: Iterable[Scorable], *, timeout: float | None = ..., on_error: Literal["return"]
    ) -> list[Result]: ...

    async def score(
        self,
        conversations: Iterable[Scorable],
        *,
        timeout: float | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Score] | list[Result]:
        """Scores a list, in its order.

        Args:
            timeout: seconds that each item may take, instead of the client's.
            on_error: "raise" gives scores, and raises when any item failed; "return" gives a `Result` for each item.

        Raises:
            BatchFailedError: items failed; it holds all results, those that were scored too.
            RewardError: the whole call failed.
        """
        results = [result async for result in self.score_stream(conversations, timeout=timeout)]
        results.sort(key=lambda result: result.index)
        if on_error == "return":
            return results
        scores = [result.outcome for result in results if isinstance(result.outcome, Score)]
        if len(scores) < len(results):
            raise BatchFailedError(results)
        return scores

    async def score_stream(
        self, conversations: Iterable[Scorable] | AsyncIterable[Scorable], *, timeout: float | None = None
    ) -> AsyncIterator[Result]:
        """Scores conversations as they come, and yields each result as it is ready.

        The iterable is consumed while results are yielded, no further ahead than the server's window. An iterable that blocks
        must be asynchronous. A lost connection is opened again and what was unanswered is sent again.

        Raises:
            RewardError: the stream as a whole failed: no such model, or no server for `reconnect` seconds.
        """
        async with aclosing(self.score_batches(conversations, timeout=timeout)) as batches:
            async for batch in batches:
                for result in batch:
                    yield result

    async def score_batches(
        self, conversations: Iterable[Scorable] | AsyncIterable[Scorable], *, timeout: float | None = None
    ) -> AsyncGenerator[list[Result], None]:
        """As `score_stream`, with the results that became ready together in one list."""
        async with aclosing(self.open_stream(timeout=timeout).batches(conversations)) as batches:
            async for batch in batches:
                yield batch

    def open_stream(self, *, timeout: float | None = None) -> ScoreStream:
        """A stream that is yet to be fed; for callers that take items back."""
        session = Session(
            model=self.model,
            options=self.options,
            timeout=self.timeout if timeout is None else timeout,
            attempts=self.attempts,
            max_message_bytes=MAX_MESSAGE_BYTES,
            reconnect=self.reconnect,
        )
        return ScoreStream(session, self._stub, self.reconnect, security=self.security, in_order=self._in_order)

    async def list_models(self) -> list[ModelInfo]:
        """The models that the server serves."""
        response = await self._unary(self._stub.ListModels, reward_service_pb2.ListModelsRequest())
        return [convert.model_info_from_proto(model) for model in response.models]

    async def get_model(self, name: str | None = None) -> ModelInfo:
        """One model; by default the client's."""
        request = reward_service_pb2.GetModelRequest(name=self.model if name is None else name)
        response = await self._unary(self._stub.GetModel, request)
        return convert.model_info_from_proto(response.model)

    async def tokenize(self, conversations: Sequence[Scorable]) -> list[TokenizeResult]:
        """What the model would read for each conversation, and the error that scoring it would give."""
        items = [convert.item_to_proto(item_of(one, default_id=str(at))) for at, one in enumerate(conversations)]
        if not items:
            return []
        request = reward_service_pb2.TokenizeRequest(
            model=self.model, options=convert.options_to_proto(self.options), items=items
        )
        response = await self._unary(self._stub.Tokenize, request)
        return [convert.tokenize_result_from_proto(result) for result in response.results]

    async def _unary(self, method: grpc.aio.UnaryUnaryMultiCallable[_R, _T], request: _R) -> _T:
        try:
            return await method(request, timeout=self.timeout, metadata=self.security.metadata())
        except grpc.aio.AioRpcError as error:
            raise typed(error) from error
