"""The server's side of a stream, with a client that is quicker than any real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from services.models import LocalModel
from services.server import ServerThread

from rm_grpc.types import Limits
from rm_grpc.v1 import reward_service_pb2, score_pb2
from rm_grpc_server.engine.engine import Engine
from rm_grpc_server.transport.drain import Drain
from rm_grpc_server.transport.score_stream import ScoreStream


def test_room_is_made_before_the_result_that_makes_it_is_seen(logit: LocalModel) -> None:
    """The next item comes, under the same id, while the result before it is still being written."""
    results: list[score_pb2.ItemResult] = []

    async def exchange(engines: dict[str, Engine], limits: Limits) -> None:
        requests: asyncio.Queue[reward_service_pb2.ScoreBatchRequest | None] = asyncio.Queue()
        requests.put_nowait(reward_service_pb2.ScoreBatchRequest(open={}))
        item = reward_service_pb2.ScoreBatchRequest(items={"items": [{"id": "same", "text": "1+1=2"}]})

        async def read() -> AsyncIterator[reward_service_pb2.ScoreBatchRequest]:
            while (request := await requests.get()) is not None:
                yield request

        async def write(response: reward_service_pb2.ScoreBatchResponse) -> None:
            results.extend(response.results.results)
            requests.put_nowait(item if len(results) < 5 else None)
            await asyncio.sleep(0.02)

        await ScoreStream(engines, limits, Drain(), write).run(read())

    with ServerThread([logit]) as server:
        engines = server.engines
        [engine] = engines.values()
        server.call(exchange(engines, replace(engine.info.limits, window_items=1)))
    assert [result.WhichOneof("outcome") for result in results] == ["score"] * 5
