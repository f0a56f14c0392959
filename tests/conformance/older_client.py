"""A client of the last released contract: it knows protos/released.binpb and nothing of today's.

It reads and writes lines as `score-jsonl` does, as far as the cases for it need.
"""

from __future__ import annotations

import json
import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2

_RELEASED = Path(__file__).parents[2] / "protos" / "released.binpb"


def _contract() -> tuple[Any, Any]:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(_RELEASED.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    request, response = (pool.FindMessageTypeByName(f"rm_grpc.v1.ScoreBatch{name}") for name in ("Request", "Response"))
    return message_factory.GetMessageClass(request), message_factory.GetMessageClass(response)


def _item(line: str) -> dict[str, Any]:
    given = json.loads(line)
    messages = [{"role": one["role"], "content": [{"text": one["content"]}]} for one in given["messages"]]
    return {"id": given["id"], "conversation": {"messages": messages}}


def _told(result: Any, index: int) -> dict[str, Any]:
    if result.HasField("score"):
        return {"id": result.id, "index": index, "score": result.score.score, "model_digest": result.score.model_digest}
    info = error_details_pb2.ErrorInfo()
    info.ParseFromString(next(detail.value for detail in result.error.details if detail.type_url.endswith("ErrorInfo")))
    code = next(code.name for code in grpc.StatusCode if code.value[0] == result.error.code)
    return {"id": result.id, "index": index, "error": {"code": code, "reason": info.reason}}


def main() -> None:
    request, response = _contract()
    lines = [_item(line) for line in sys.stdin]
    order = [line["id"] for line in lines]
    to_send: queue.SimpleQueue[Any] = queue.SimpleQueue()
    to_send.put(request(open={}))

    def requests() -> Iterator[bytes]:
        while (message := to_send.get()) is not None:
            yield message.SerializeToString()

    with grpc.insecure_channel(sys.argv[2]) as channel:
        owed = len(lines)
        method: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/rm_grpc.v1.RewardService/ScoreBatch")
        for raw in method(requests()):
            message = response.FromString(raw)
            if message.HasField("opened"):
                to_send.put(json_format.ParseDict({"items": {"items": lines}}, request()))
            for result in message.results.results:
                print(json.dumps(_told(result, order.index(result.id))), flush=True)
                owed -= 1
            if not owed:
                to_send.put(None)


if __name__ == "__main__":
    main()
