"""RewardService over gRPC. Every failure leaves as a status with typed details."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from typing import TypeVar

from rm_grpc import errors
from rm_grpc.v1 import reward_service_pb2, reward_service_pb2_grpc
from rm_grpc_server.transport.calls import Calls
from rm_grpc_server.transport.door.interceptor import Context, abort
from rm_grpc_server.transport.score_stream import ScoreStream

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class RewardServicer(reward_service_pb2_grpc.RewardServiceServicer):
    """The service; see protos/rm_grpc/v1/reward_service.proto."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Score(  # noqa: N802 - the contract's name
        self, request: reward_service_pb2.ScoreRequest, context: Context
    ) -> reward_service_pb2.ScoreResponse:
        """Scores a bounded list, in order."""
        return await self._answered(self._calls.score(request, context.time_remaining()), context)

    async def ScoreEach(  # type: ignore[override]  # noqa: N802 - writes through the context instead of yielding
        self, request: reward_service_pb2.ScoreEachRequest, context: Context
    ) -> None:
        """Scores a bounded list, as results are ready."""

        async def write() -> None:
            async with aclosing(self._calls.score_each(request, context.time_remaining())) as responses:
                async for response in responses:
                    await context.write(response)

        await self._answered(write(), context)

    async def ScoreBatch(  # type: ignore[override]  # noqa: N802 - writes through the context instead of yielding
        self, request_iterator: AsyncIterator[reward_service_pb2.ScoreBatchRequest], context: Context
    ) -> None:
        """Scores a stream."""
        stream = ScoreStream(self._calls.engines, self._calls.limits, self._calls.drain, context.write)
        await self._answered(stream.run(aiter(request_iterator)), context)

    async def ListModels(  # noqa: N802
        self, request: reward_service_pb2.ListModelsRequest, context: Context
    ) -> reward_service_pb2.ListModelsResponse:
        """Lists the models."""
        return await self._answered(self._calls.list_models(request), context)

    async def GetModel(  # noqa: N802
        self, request: reward_service_pb2.GetModelRequest, context: Context
    ) -> reward_service_pb2.GetModelResponse:
        """Describes one model."""
        return await self._answered(self._calls.get_model(request), context)

    async def Tokenize(  # noqa: N802
        self, request: reward_service_pb2.TokenizeRequest, context: Context
    ) -> reward_service_pb2.TokenizeResponse:
        """Tells what a model would read."""
        return await self._answered(self._calls.tokenize(request), context)

    async def _answered(self, work: Awaitable[_T], context: Context) -> _T:
        """The work's answer; its failure ends the call with a status that tells it."""
        with self._calls.drain.call():
            try:
                return await work
            except errors.RewardError as error:
                await abort(context, error)
            except Exception as error:
                if context.done():
                    raise  # the client is gone; nobody is left to tell
                _LOG.exception("a call failed")
                await abort(context, errors.InternalError(f"the call failed: {type(error).__name__}"))
