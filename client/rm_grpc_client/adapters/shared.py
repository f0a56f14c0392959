"""What adapters share: one environment for each process and settings, and conversations in the shapes that trainers have."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rm_grpc.errors import InvalidRequestError, RewardError
from rm_grpc.rendered import rollout_of, without_end
from rm_grpc.types import Conversation, Item, Message
from rm_grpc_client.environment import Reward
from rm_grpc_client.settings import ClientSettings
from rm_grpc_client.sync_environment import SyncRewardEnvironment

_environments: dict[ClientSettings, SyncRewardEnvironment] = {}
_lock = threading.Lock()
_was_forked = False


def _after_fork() -> None:
    global _lock, _was_forked  # noqa: PLW0603 - a fork leaves both as they were, the lock perhaps held
    _was_forked = _was_forked or bool(_environments)
    _lock = threading.Lock()
    _environments.clear()


if hasattr(os, "register_at_fork"):  # where there are forks
    os.register_at_fork(after_in_child=_after_fork)


def environment(given: Mapping[str, Any]) -> SyncRewardEnvironment:
    """The environment of these settings in this process: made at the first call, shared by all threads and event loops, so
    that one-sample calls of a trainer travel together. It masks failures.

    Raises:
        InvalidRequestError: settings that cannot be, or a process forked from one that had an environment: gRPC does not live
            on in it.
    """
    settings = ClientSettings.of(given)
    if _was_forked:
        raise InvalidRequestError(
            "this process was forked from one that had asked for rewards, and cannot ask; ask in forked processes only, or "
            "start them by spawn"
        )
    with _lock:
        if settings not in _environments:
            _environments[settings] = SyncRewardEnvironment(settings.environment(failures="none"))
        return _environments[settings]


async def rewards(items: Iterable[Item], given: Mapping[str, Any]) -> list[Reward]:
    """The rewards of items, in their order, awaited on whatever loop runs."""
    there = environment(given)
    waiting = [asyncio.wrap_future(there.submit(item)) for item in items]
    try:
        return [await one for one in waiting]
    finally:
        for one in waiting:
            one.cancel()


async def rewards_or_none(items: Iterable[Callable[[], Item]], given: Mapping[str, Any]) -> list[Reward]:
    """The same for trainers that leave samples out: what makes an item may raise its error, which becomes its reward."""
    made: list[Item | RewardError] = []
    for make in items:
        try:
            made.append(make())
        except RewardError as error:  # noqa: PERF203 - each has its own
            made.append(error)
    found = iter(await rewards([one for one in made if isinstance(one, Item)], given))
    return [Reward(at, None, None, one) if isinstance(one, RewardError) else next(found) for at, one in enumerate(made)]


async def reward(item: Item, given: Mapping[str, Any]) -> Reward:
    """The reward of one item; raises its error where it cannot be scored."""
    [found] = await rewards([item], given)
    return scored(found)


def scored(found: Reward) -> Reward:
    """The reward, for trainers without a way to leave a sample out; raises its error where there is none."""
    if found.error is not None:
        raise found.error
    return found


def value(found: Reward) -> float:
    """The number of a reward; raises as `scored`."""
    number = scored(found).value
    assert number is not None
    return number


def numbers(found: Reward) -> dict[str, float]:
    """The score by that name, and each number that the model gives beside it by its own; raises as `scored`."""
    return {**found.components, "score": value(found)}


def known(**given: Any) -> dict[str, Any]:
    """Metadata, without what the trainer does not know."""
    return {key: value for key, value in given.items() if value is not None}


def lazily(module: str, **makers: Callable[[], Any]) -> Callable[[str], Any]:
    """A module's `__getattr__`, for classes whose base is a trainer's: each is made when it is asked for first."""
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in makers:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if name not in made:
            made[name] = makers[name]()
        return made[name]

    return get


def item(prompt: Any, response: Any, *, metadata: Mapping[str, Any] | None = None, rendered: bool = False) -> Item:
    """An item of a prompt and a response.

    Args:
        prompt: messages in the OpenAI shape, or text.
        response: text, or messages in the OpenAI shape.
        metadata: what a scorer may read beside the conversation.
        rendered: text of the prompt carries the policy's chat template, and the response its end marks.

    Raises:
        InvalidRequestError: neither of these.
    """
    return Item("", _conversation(prompt, response, rendered), metadata=dict(metadata or {}))


def per_sample(columns: Mapping[str, Any], names: Sequence[str], count: int) -> list[dict[str, Any]]:
    """The columns that scorers are to see, for each sample.

    Raises:
        InvalidRequestError: there is no such column, or it has not one value for each sample.
    """
    for name in names:
        if name not in columns:
            raise InvalidRequestError(f"the dataset has no such column; there are {', '.join(sorted(columns))}", field=name)
        if not isinstance(columns[name], Sequence) or len(columns[name]) != count:
            raise InvalidRequestError(f"must have one value for each of {count} samples", field=name)
    return [{name: columns[name][at] for name in names} for at in range(count)]


def as_list(messages: Any) -> list[Any]:
    """A list of messages, out of the containers that trainers keep them in (numpy arrays of objects, tuples)."""
    return [dict(one) if isinstance(one, Mapping) else one for one in messages]


def _conversation(prompt: Any, response: Any, rendered: bool) -> Conversation:
    if rendered and isinstance(prompt, str) and isinstance(response, str):
        return rollout_of(prompt, response)
    answer = without_end(response) if rendered and isinstance(response, str) else response
    return Conversation((*_messages(prompt, "user", "prompt"), *_messages(answer, "assistant", "response")))


def _messages(given: Any, role: str, field: str) -> tuple[Message, ...]:
    if isinstance(given, str):
        return (Message(role, given),)
    if isinstance(given, Iterable) and not isinstance(given, (bytes, Mapping)):
        return Conversation.from_openai(as_list(given)).messages
    raise InvalidRequestError(f"must be messages or text, not {type(given).__name__}", field=field)
