"""A server whose contract is ahead of the client's: what a later release could be, in front of today's server.

The contract of today is widened at run time: every message has two more fields, streams have one more kind of message, and
scores have an activation that nobody has heard of. Errors get a reason of the future, and where they are of the server's own
fault a code that this service does not use today.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc import error_details_pb2

from conformance.proxy import Passage
from rm_grpc.v1 import conversation_pb2, model_pb2, reward_service_pb2, score_pb2

_REASON = "REASON_OF_THE_FUTURE"
_INTERNAL, _NEW_CODE = (code.value[0] for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.PERMISSION_DENIED))
_NEW_ACTIVATION = 99
_PACKAGE = "rm_grpc.v1"
_NUMBER_FIELD, _MESSAGE_FIELD, _NEW_KIND = 1000, 1001, 15
_Field = descriptor_pb2.FieldDescriptorProto


def _widened_response() -> Any:
    pool = descriptor_pool.DescriptorPool()
    known = reward_service_pb2.DESCRIPTOR.pool
    for name in ("google/protobuf/any", "google/protobuf/duration", "google/protobuf/struct", "google/rpc/status"):
        pool.AddSerializedFile(known.FindFileByName(f"{name}.proto").serialized_pb)
    for module in (conversation_pb2, model_pb2, score_pb2, reward_service_pb2):
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for declared in file.message_type:
            field = declared.field.add
            field(name="new_number", number=_NUMBER_FIELD, type=_Field.TYPE_INT64, label=_Field.LABEL_OPTIONAL)
            field(
                name="new_message",
                number=_MESSAGE_FIELD,
                type=_Field.TYPE_MESSAGE,
                type_name=f".{_PACKAGE}.{declared.name}",
                label=_Field.LABEL_OPTIONAL,
            )
            if declared.name == "ScoreBatchResponse":
                kind = field(name="new_kind", number=_NEW_KIND, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
                kind.oneof_index = 0
        pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.ScoreBatchResponse"))


_RESPONSE = _widened_response()


class Newer(Passage):
    """Has each message come as a later server sends it, after one of a kind that is new."""

    def responses(self, responses: Iterable[bytes]) -> Iterator[bytes]:
        """See `Passage`."""
        for response in responses:
            yield _RESPONSE(new_kind="of no meaning today", new_number=1).SerializeToString()
            widened = _RESPONSE.FromString(response)
            for result in widened.results.results:
                if result.WhichOneof("outcome") == "score":
                    result.score.activation = _NEW_ACTIVATION
                else:
                    _make_new(result.error)
            _fill(widened)
            yield widened.SerializeToString()


def _make_new(status: Any) -> None:
    """Gives an error the reason, and perhaps the code, of the future."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            info.ParseFromString(detail.value)
            info.reason = _REASON
            detail.value = info.SerializeToString()
    status.code = _NEW_CODE if status.code == _INTERNAL else status.code


def _fill(message: Any) -> None:
    """Gives the new fields a value, in a message and in all messages of the contract inside it."""
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.file.package == _PACKAGE:
            for one in value if hasattr(value, "add") else [value]:
                _fill(one)
    message.new_number = 2**40
    message.new_message.new_number = -1
