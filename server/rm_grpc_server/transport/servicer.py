"""RewardService over the engines. Every failure leaves as a status with typed details."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

import grpc

from rm_grpc import convert, errors
from rm_grpc.types import Item, Limits, Score, TokenizeResult
from rm_grpc.v1 import conversation_pb2, reward_service_pb2, reward_service_pb2_grpc
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.transport.admission import admit, find_engine
from rm_grpc_server.transport.drain import Drain
from rm_grpc_server.transport.score_stream import ScoreStream
from rm_grpc_server.transport.submission import submitted

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
Context = grpc.aio.ServicerContext[Any, Any]


class RewardServicer(reward_service_pb2_grpc.RewardServiceServicer):
    """The service; see protos/rm_grpc/v1/reward_service.proto."""

    def __init__(self, engines: Mapping[str, Engine], limits: Limits, drain: Drain) -> None:
        self._engines = engines
        self._limits = limits
        self._drain = drain

    async def Score(  # noqa: N802 - the contract's name
        self, request: reward_service_pb2.ScoreRequest, context: Context
    ) -> reward_service_pb2.ScoreResponse:
        """Scores a bounded list, in order."""
        return await self._answered(self._score(request, context.time_remaining()), context)

    async def ScoreBatch(  # type: ignore[override]  # noqa: N802 - writes through the context instead of yielding
        self, request_iterator: AsyncIterator[reward_service_pb2.ScoreBatchRequest], context: Context
    ) -> None:
        """Scores a stream."""
        stream = ScoreStream(self._engines, self._limits, self._drain, context.write)
        await self._answered(stream.run(aiter(request_iterator)), context)

    async def ListModels(  # noqa: N802
        self, request: reward_service_pb2.ListModelsRequest, context: Context
    ) -> reward_service_pb2.ListModelsResponse:
        """Lists the models."""
        del request, context
        models = [convert.model_info_to_proto(engine.info) for engine in self._engines.values()]
        return reward_service_pb2.ListModelsResponse(models=models)

    async def GetModel(  # noqa: N802
        self, request: reward_service_pb2.GetModelRequest, context: Context
    ) -> reward_service_pb2.GetModelResponse:
        """Describes one model."""

        async def get() -> reward_service_pb2.GetModelResponse:
            info = find_engine(self._engines, request.name).info
            return reward_service_pb2.GetModelResponse(model=convert.model_info_to_proto(info))

        return await self._answered(get(), context)

    async def Tokenize(  # noqa: N802
        self, request: reward_service_pb2.TokenizeRequest, context: Context
    ) -> reward_service_pb2.TokenizeResponse:
        """Tells what a model would read."""
        return await self._answered(self._tokenize(request), context)

    async def _score(
        self, request: reward_service_pb2.ScoreRequest, time_remaining: float | None
    ) -> reward_service_pb2.ScoreResponse:
        engine = find_engine(self._engines, request.model)
        options = convert.options_from_proto(request.options)
        admitted = self._admitted(request.items)
        if self._drain.begun:
            raise self._drain.refusal()
        items = [item for item in admitted if isinstance(item, Item)]
        sizes = [proto.ByteSize() for proto, item in zip(request.items, admitted, strict=True) if isinstance(item, Item)]
        with submitted(engine, items, options, timeout=time_remaining, sizes=sizes) as entries:
            scored = iter(await asyncio.gather(*(entry.future for entry in entries)))
        outcomes: list[Score | errors.RewardError] = [next(scored) if isinstance(item, Item) else item for item in admitted]
        results = [
            convert.result_to_proto(_id_at(at, proto), outcome if isinstance(outcome, Score) else _placed(outcome, at))
            for at, (proto, outcome) in enumerate(zip(request.items, outcomes, strict=True))
        ]
        return reward_service_pb2.ScoreResponse(results=results, model_digest=engine.info.model_digest)

    async def _tokenize(self, request: reward_service_pb2.TokenizeRequest) -> reward_service_pb2.TokenizeResponse:
        engine = find_engine(self._engines, request.model)
        options = convert.options_from_proto(request.options)
        admitted = self._admitted(request.items)
        read = iter(await engine.tokenize([item for item in admitted if isinstance(item, Item)], options))
        results = []
        for at, (proto, item) in enumerate(zip(request.items, admitted, strict=True)):
            found = next(read) if isinstance(item, Item) else TokenizeResult("", None, item)
            error = _placed(found.error, at) if found.error is not None else None
            results.append(convert.tokenize_result_to_proto(replace(found, id=_id_at(at, proto), error=error)))
        return reward_service_pb2.TokenizeResponse(results=results, tokenizer_digest=engine.info.tokenizer_digest)

    def _admitted(self, protos: Any) -> list[Item | errors.RewardError]:
        """Each item, or why it is not accepted; ids that are empty become positions."""
        if not protos:
            raise errors.EmptyBatchError("at least one item is needed", field="items")
        if len(protos) > self._limits.window_items:
            raise errors.InvalidRequestError(
                f"{len(protos)} items in one call, and at most {self._limits.window_items} are taken; use ScoreBatch",
                field="items",
            )
        admitted: list[Item | errors.RewardError] = []
        seen: dict[str, object] = {}
        for proto in protos:
            try:
                admitted.append(admit(proto, seen) if proto.id else convert.item_from_proto(proto))
            except errors.RewardError as error:
                admitted.append(error)
            if proto.id:
                seen[proto.id] = None
        return admitted

    async def _answered(self, work: Awaitable[_T], context: Context) -> _T:
        """The work's answer; its failure ends the call with a status that tells it."""
        with self._drain.call():
            try:
                return await work
            except errors.RewardError as error:
                await _abort(context, error)
            except Exception as error:
                if context.done():
                    raise  # the client is gone; nobody is left to tell
                _LOG.exception("a call failed")
                await _abort(context, errors.InternalError(f"the call failed: {type(error).__name__}"))


def _id_at(at: int, proto: conversation_pb2.Item) -> str:
    return proto.id or str(at)


def _placed(error: errors.RewardError, at: int) -> errors.RewardError:
    return error.within(f"items[{at}]") if error.field else error


async def _abort(context: Context, error: errors.RewardError) -> NoReturn:
    status = errors.to_status(error)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(error.code, status.message, trailing_metadata=details)
    raise AssertionError("abort raises")
