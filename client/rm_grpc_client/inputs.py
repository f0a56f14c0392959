"""What the client scores, in the shapes that callers have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from rm_grpc.errors import InvalidRequestError
from rm_grpc.types import Conversation, Item, TokenIds

Scorable: TypeAlias = "Conversation | Sequence[Mapping[str, Any]] | TokenIds | Item | str"
"""Chat messages (as a `Conversation` or in the OpenAI shape), token ids, text already rendered, or an `Item` around any."""


def item_of(scorable: Scorable, *, default_id: str) -> Item:
    """The item that a caller means.

    Raises:
        InvalidRequestError: nothing that can be scored; its field names the place.
    """
    if isinstance(scorable, Item):
        return scorable if scorable.id else replace(scorable, id=default_id)
    if isinstance(scorable, (Conversation, TokenIds)):
        return Item(default_id, scorable)
    if isinstance(scorable, str):
        return Item(default_id, scorable)
    if isinstance(scorable, Sequence) and not isinstance(scorable, (str, bytes, bytearray)):
        return Item(default_id, Conversation.from_openai(scorable))
    raise InvalidRequestError(
        f"a {type(scorable).__name__} is no conversation; give a list of messages, a Conversation, TokenIds, text or an Item"
    )
