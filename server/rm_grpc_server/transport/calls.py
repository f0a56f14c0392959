"""What the methods of RewardService answer, whatever protocol asked; ScoreBatch, which lives, is `score_stream`'s."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rm_grpc import convert, errors
from rm_grpc.types import Item, Limits, Score, TokenizeResult
from rm_grpc.v1 import conversation_pb2, reward_service_pb2, score_pb2
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.engine.entry import Outcome
from rm_grpc_server.transport.admission import admit, find_engine
from rm_grpc_server.transport.drain import Drain
from rm_grpc_server.transport.submission import next_over, submitted


class Calls:
    """The bounded methods. Each raises `RewardError` where the whole call fails.

    Args:
        engines: by model name.
        limits: most items of one call.
        drain: whether the server is going down.
    """

    def __init__(self, engines: Mapping[str, Engine], limits: Limits, drain: Drain) -> None:
        self.engines = engines
        self.limits = limits
        self.drain = drain

    async def score(
        self, request: reward_service_pb2.ScoreRequest, timeout: float | None = None
    ) -> reward_service_pb2.ScoreResponse:
        """Scores a bounded list, in order, within `timeout` seconds."""
        engine = find_engine(self.engines, request.model)
        with self._submitted(engine, request.items, request.options, timeout) as futures:
            outcomes = await asyncio.gather(*futures)
        results = [_result(at, proto, outcome) for at, (proto, outcome) in enumerate(zip(request.items, outcomes, strict=True))]
        return reward_service_pb2.ScoreResponse(results=results, model_digest=engine.info.model_digest)

    async def score_each(
        self, request: reward_service_pb2.ScoreEachRequest, timeout: float | None = None
    ) -> AsyncGenerator[reward_service_pb2.ScoreEachResponse, None]:
        """Scores a bounded list, each item answered as it is ready. Closing the generator takes the rest back."""
        engine = find_engine(self.engines, request.model)
        with self._submitted(engine, request.items, request.options, timeout) as futures:
            waiting = {future: at for at, future in enumerate(futures)}
            while waiting:
                results = [_result(at, request.items[at], futures[at].result()) for at in await next_over(waiting)]
                yield reward_service_pb2.ScoreEachResponse(results=results, model_digest=engine.info.model_digest)

    async def list_models(self, request: reward_service_pb2.ListModelsRequest) -> reward_service_pb2.ListModelsResponse:
        """Lists the models."""
        del request
        models = [convert.model_info_to_proto(engine.info) for engine in self.engines.values()]
        return reward_service_pb2.ListModelsResponse(models=models)

    async def get_model(self, request: reward_service_pb2.GetModelRequest) -> reward_service_pb2.GetModelResponse:
        """Describes one model."""
        info = find_engine(self.engines, request.name).info
        return reward_service_pb2.GetModelResponse(model=convert.model_info_to_proto(info))

    async def tokenize(self, request: reward_service_pb2.TokenizeRequest) -> reward_service_pb2.TokenizeResponse:
        """Tells what a model would read."""
        engine = find_engine(self.engines, request.model)
        options = convert.options_from_proto(request.options)
        admitted = self._admitted(request.items)
        read = iter(await engine.tokenize([item for item in admitted if isinstance(item, Item)], options))
        results = []
        for at, (proto, item) in enumerate(zip(request.items, admitted, strict=True)):
            found = next(read) if isinstance(item, Item) else TokenizeResult("", None, item)
            error = _placed(found.error, at) if found.error is not None else None
            results.append(convert.tokenize_result_to_proto(replace(found, id=_id_at(at, proto), error=error)))
        return reward_service_pb2.TokenizeResponse(results=results, tokenizer_digest=engine.info.tokenizer_digest)

    @contextmanager
    def _submitted(
        self, engine: Engine, protos: Sequence[conversation_pb2.Item], options: score_pb2.ScoreOptions, timeout: float | None
    ) -> Iterator[list[asyncio.Future[Outcome]]]:
        admitted, read_options = self._admitted(protos), convert.options_from_proto(options)
        if self.drain.begun:
            raise self.drain.refusal()
        sizes = [proto.ByteSize() for proto in protos]
        with submitted(engine, admitted, read_options, sizes=sizes, timeout=timeout) as futures:
            yield futures

    def _admitted(self, protos: Sequence[conversation_pb2.Item]) -> list[Item | errors.RewardError]:
        """Each item, or why it is not accepted; ids that are empty become positions."""
        if not protos:
            raise errors.EmptyBatchError("at least one item is needed", field="items")
        if len(protos) > self.limits.window_items:
            raise errors.InvalidRequestError(
                f"{len(protos)} items in one call, and at most {self.limits.window_items} are taken; use ScoreBatch",
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


def _result(at: int, proto: conversation_pb2.Item, outcome: Outcome) -> score_pb2.ItemResult:
    return convert.result_to_proto(_id_at(at, proto), outcome if isinstance(outcome, Score) else _placed(outcome, at))


def _id_at(at: int, proto: conversation_pb2.Item) -> str:
    return proto.id or str(at)


def _placed(error: errors.RewardError, at: int) -> errors.RewardError:
    return error.within(f"items[{at}]") if error.field else error
