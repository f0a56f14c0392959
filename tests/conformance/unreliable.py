"""Proxies that end streams as if all were well or as cancelled, tell results twice, and tell results of items nobody sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from conformance.proxy import Ending, Passage
from rm_grpc.v1.reward_service_pb2 import Results, ScoreBatchResponse
from rm_grpc.v1.score_pb2 import ItemResult, Score

_RESULTS = 40
"""Of one stream, until it ends."""


class Unreliable(Passage):
    """See the module."""

    def responses(self, responses: Iterable[bytes]) -> Iterator[bytes]:
        """See `Passage`."""
        told = 0
        for raw in responses:
            yield raw
            response = ScoreBatchResponse.FromString(raw)
            if response.WhichOneof("message") == "results":
                strangers = [ItemResult(id=name, score=Score(score=-1)) for name in ("1000000", "", "x", "-1")]
                yield ScoreBatchResponse(results=Results(results=strangers)).SerializeToString()
                yield raw
                told += len(response.results.results)
            if told >= _RESULTS:
                return


class Cancelling(Unreliable):
    """What an HTTP/2 proxy does to a stream when the server behind it goes."""

    def responses(self, responses: Iterable[bytes]) -> Iterator[bytes]:
        """See `Passage`."""
        yield from super().responses(responses)
        raise Ending("the server behind this proxy went away")
