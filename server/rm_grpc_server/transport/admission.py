"""From messages to accepted items: conversion and the checks that need no model."""

from __future__ import annotations

from collections.abc import Mapping

from rm_grpc import convert, errors
from rm_grpc.types import Item
from rm_grpc.v1 import conversation_pb2
from rm_grpc_server.engine.engine import Engine


def find_engine(engines: Mapping[str, Engine], name: str) -> Engine:
    """The engine of a model, by the name that it is served under or, where that tells one from the others, by what it was
    loaded from, which is how trainers name it; an empty name means the only one.

    Raises:
        ModelNotFoundError: there is none of that name, or several and no name.
    """
    if name in engines:
        return engines[name]
    if not name and len(engines) == 1:
        return next(iter(engines.values()))
    by_source = [engine for engine in engines.values() if name and engine.info.source == name]
    if len(by_source) == 1:
        return by_source[0]
    told = f"no model {name!r} is served" if name else "several models are served and none was named"
    raise errors.ModelNotFoundError(f"{told}; there are {', '.join(engines)}", field="model")


def admit(proto: conversation_pb2.Item, in_flight: Mapping[str, object]) -> Item:
    """An item as a value.

    Raises:
        RewardError: the item cannot be accepted; its field names why.
    """
    if not proto.id:
        raise errors.InvalidRequestError("an item on a stream needs an id", field="id")
    if proto.id in in_flight:
        raise errors.DuplicateIdError(f"an item {proto.id!r} is in flight already", field="id")
    return convert.item_from_proto(proto)
