"""Texts and token ids in the shapes that other servers take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from pydantic import StrictInt, StrictStr

from rm_grpc import errors
from rm_grpc.types import Item, ModelInfo, TokenIds

Ids: TypeAlias = list[StrictInt] | list[list[StrictInt]]
Prompts: TypeAlias = StrictStr | list[StrictStr] | Ids
"""One text, several, the token ids of one conversation, or of several."""


def is_batch(prompts: Prompts) -> bool:
    """Whether several are meant, be it one."""
    return isinstance(prompts, list) and bool(prompts) and not isinstance(prompts[0], int)


def items_of(prompts: Prompts, info: ModelInfo, field: str) -> list[Item]:
    """The items that are meant. Ids count as the model's own tokenizer's: these formats do not say whose they are.

    Raises:
        EmptyBatchError: there are none.
    """
    if not prompts:
        raise errors.EmptyBatchError("nothing to score", field=field)
    several: Sequence[str | int | list[int]] = prompts if isinstance(prompts, list) else [prompts]
    if isinstance(several[0], int):
        return [_tokens([one for one in several if isinstance(one, int)], info)]
    return [Item("", one) if isinstance(one, str) else _tokens(one, info) for one in several if not isinstance(one, int)]


def names_of(prompts: Prompts, field: str) -> list[str]:
    """What the caller calls each of them."""
    return places(field, len(prompts)) if is_batch(prompts) else [field]


def places(field: str, count: int) -> list[str]:
    """What the caller calls each element of a list."""
    return [f"{field}[{at}]" for at in range(count)]


def _tokens(ids: list[int], info: ModelInfo) -> Item:
    return Item("", TokenIds(ids, info.tokenizer_digest))
