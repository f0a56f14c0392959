"""The child process of `echo_server`: a bidirectional stream of grpc.aio and nothing else.

Run as `python -m benchmarks.echo_child ANSWER READY`: to each message it answers the bytes of the file ANSWER, the size of the
service's results, without looking at what came.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

SERVICE, METHOD = "benchmarks.Echo", "Stream"


async def _serve(answer: bytes, ready: Path) -> None:
    async def stream(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        del context
        async for _ in messages:
            yield answer

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.aio.server(options=limits)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    partial = ready.with_suffix(".partial")
    partial.write_text(f"127.0.0.1:{port}")
    os.replace(partial, ready)
    await stop.wait()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])))
