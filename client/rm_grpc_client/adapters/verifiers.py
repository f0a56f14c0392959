"""verifiers and prime-rl: a reward of a task, plugged in by its name or made with settings of its own.

Interface: verifiers 0.4, verifiers.v1. Arguments are found by name; an exception is recorded on the trace, which prime-rl then
leaves out. Keep our timeout below the task's scoring timeout: past that one verifiers counts 0.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rm_grpc.types import Conversation, Item, Message, ToolCall
from rm_grpc_client.adapters import shared

Reward = Callable[[Any, Any], Awaitable[Mapping[str, float]]]


async def rm_reward(task: Any, trace: Any) -> Mapping[str, float]:
    """The score of a trace's conversation, and each number that the model gives beside it; settings come from the environment
    (RM_GRPC_CLIENT_ADDRESSES, RM_GRPC_CLIENT_MODEL ...).

    In a task's configuration: `rewards = {rm = {fn = "rm_grpc_client.adapters.verifiers:rm_reward", weight = 1.0}}`.

    Raises:
        RewardError: the conversation cannot be scored.
    """
    return await _scored(task, trace, {})


def reward_of(**settings: Any) -> Reward:
    """The same with settings of its own, those of `ClientSettings`; for a method of a task that awaits it."""

    async def rm(task: Any, trace: Any) -> Mapping[str, float]:
        return await _scored(task, trace, settings)

    return rm


async def _scored(task: Any, trace: Any, settings: Mapping[str, Any]) -> Mapping[str, float]:
    del task
    conversation = Conversation(tuple(_message(one) for one in trace.messages))
    found = await shared.reward(Item("", conversation), settings)
    return shared.numbers(found) if found.components else {"rm_grpc": shared.value(found)}


def _message(message: Any) -> Message:
    raw = message.model_dump() if hasattr(message, "model_dump") else dict(message)
    [read] = Conversation.from_openai([{key: raw.get(key) for key in ("role", "content", "reasoning_content")}]).messages
    calls = tuple(
        ToolCall(name=str(call["name"]), arguments=str(call.get("arguments", "")), id=str(call.get("id") or ""))
        for call in raw.get("tool_calls") or ()
    )
    return Message(read.role, read.content, "", calls, str(raw.get("tool_call_id") or ""), read.reasoning_content)
