"""A server in front of the real one, for what no real server does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import grpc

_METHOD = "/rm_grpc.v1.RewardService/ScoreBatch"


class Ending(Exception):  # noqa: N818 - some are wanted
    """A stream ends here, with this status."""

    code = grpc.StatusCode.CANCELLED


class Breach(Ending):
    """The client does what no client should."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class Passage:
    """One stream on its way; as it stands, everything is passed on."""

    def requests(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """What the real server gets.

        Raises:
            Breach: at the end of the messages, for whoever asked for more.
        """
        return requests

    def responses(self, responses: Iterable[bytes]) -> Iterator[bytes]:
        """What the client gets.

        Raises:
            Ending: the stream ends with its status, and says this.
        """
        yield from responses


Making: TypeAlias = Callable[[], Passage]


class Proxy:
    """Serves streams only, each with a passage of its own.

    Attributes:
        address: where.
    """

    is_well = True

    def __init__(self, behind: str, making: Making) -> None:
        self._making = making
        self._channel = grpc.insecure_channel(behind)
        self._forward: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(_METHOD)
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """One stream, passed on."""
        passage = self._making()
        call = self._forward(passage.requests(requests), metadata=context.invocation_metadata())
        context.add_callback(lambda: _cancel(call))
        try:
            yield from passage.responses(call)
        except Ending as ending:
            call.cancel()
            context.abort(ending.code, str(ending))
        except grpc.RpcError:
            context.set_trailing_metadata(call.trailing_metadata() or ())
            context.abort(call.code(), call.details() or "")

    def act(self, what: str) -> None:
        """See `Server`."""
        raise ValueError(f"a proxy is not asked to {what}")

    def close(self) -> None:
        """See `Server`."""
        self._server.stop(0).wait()
        self._channel.close()


def _cancel(call: grpc.RpcContext) -> None:
    call.cancel()


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Knows the one method that the programs of this suite call."""
        return grpc.stream_stream_rpc_method_handler(self._proxy.stream) if details.method == _METHOD else None
