"""Whether a conversation may be scored at all, before it is rendered."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from rm_grpc import errors
from rm_grpc.types import ROLES, ControlTokens, Conversation, ForeignMarkers, Message, ScoreOptions
from rm_grpc_server.config import TextSettings
from rm_grpc_server.text.markers import MarkerScan


def check_conversation(conversation: Conversation, settings: TextSettings, *, may_ask: bool = False) -> None:
    """Checks the shape of a conversation.

    Args:
        may_ask: it need not end with a response, whatever the settings say.

    Raises:
        RewardError: of the kind that fits; its field names the message.
    """
    messages = conversation.messages
    if not messages:
        raise errors.NoMessagesError("a conversation needs at least one message", field="conversation.messages")
    for at, message in enumerate(messages):
        if message.role not in ROLES:
            where = f"conversation.messages[{at}].role"
            raise errors.UnknownRoleError(f"{message.role!r} is none of {', '.join(ROLES)}", field=where)
    if settings.require_response and not may_ask and messages[-1].role != "assistant":
        raise errors.NoResponseError(
            f"the last message is of role {messages[-1].role!r}; a conversation ends with the assistant's response to score",
            field=f"conversation.messages[{len(messages) - 1}].role",
        )
    if settings.system_prompt == "forbidden" and any(message.role in ("system", "developer") for message in messages):
        raise errors.TemplateRefusedError("this model reads no system message; leave it out", field="conversation.messages")
    if settings.system_prompt == "required" and messages[0].role not in ("system", "developer"):
        raise errors.TemplateRefusedError("this model needs a system message first", field="conversation.messages[0].role")
    if conversation.tools:
        _check_tools(conversation.tools)


def _check_tools(tools: str) -> None:
    try:
        parsed = json.loads(tools)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidRequestError(f"is no JSON: {error}", field="conversation.tools_json") from error
    if not isinstance(parsed, list):
        raise errors.InvalidRequestError("must be a JSON array of tools", field="conversation.tools_json")


def check_content(conversation: Conversation, options: ScoreOptions, control: MarkerScan, foreign: MarkerScan) -> None:
    """Refuses control tokens and chat markers inside content, unless the caller said otherwise.

    Raises:
        ControlTokensError, ForeignMarkersError: naming the message and what was found.
    """
    texts = [spoken(message) for message in conversation.messages]
    if conversation.tools:
        texts.append(_plain_json(conversation.tools))
    for at, text in enumerate(texts):
        if options.control_tokens is ControlTokens.REFUSE and (found := control.found(text)):
            raise errors.ControlTokensError(
                f"the content holds control tokens of this model: {', '.join(found)}. Was it rendered already? "
                "Send plain messages, or set control_tokens to as_text or allow",
                field=_place(conversation, at),
            )
        if options.foreign_markers is ForeignMarkers.REFUSE and (found := foreign.found(text)):
            raise errors.ForeignMarkersError(
                f"the content holds chat markers: {', '.join(found)}. It looks rendered already with another model's "
                "template; send plain messages, or set foreign_markers to allow",
                field=_place(conversation, at),
            )


def _place(conversation: Conversation, at: int) -> str:
    return f"conversation.messages[{at}].content" if at < len(conversation.messages) else "conversation.tools_json"


def refuse_unread(messages: Sequence[Message]) -> None:
    """Refuses what a kind that reads plain texts would leave out.

    Raises:
        UnsupportedContentError: a message has more than its content.
    """
    for message in messages:
        if message.tool_calls or message.reasoning_content:
            what = "tool calls" if message.tool_calls else "reasoning"
            raise errors.UnsupportedContentError(
                f"this model reads the content of messages alone, and one of the {message.role} has {what}",
                field="conversation.messages",
            )


def spoken(message: Message) -> str:
    """Everything of a message that a template may print."""
    if not (message.name or message.tool_call_id or message.reasoning_content or message.tool_calls):
        return message.text
    calls = [part for call in message.tool_calls for part in (call.id, call.name, _plain_json(call.arguments))]
    return "\n".join((message.name, message.tool_call_id, message.reasoning_content, message.text, *calls))


def map_texts(conversation: Conversation, change: Callable[[str], str]) -> Conversation:
    """The conversation with `change` applied to everything that a template may print but roles."""
    messages = [
        replace(
            message,
            content=change(message.text),  # whole: what is a mark in two pieces is one when they are joined
            name=change(message.name),
            tool_call_id=change(message.tool_call_id),
            reasoning_content=change(message.reasoning_content),
            tool_calls=tuple(
                replace(call, id=change(call.id), name=change(call.name), arguments=_map_json(call.arguments, change))
                for call in message.tool_calls
            ),
        )
        for message in conversation.messages
    ]
    return replace(conversation, messages=tuple(messages), tools=_map_json(conversation.tools, change))


def _plain_json(text: str) -> str:
    """JSON text without escapes of characters, so that `\\u003c|im_end|>` is seen for what it is."""
    return _map_json(text, str)


def _map_json(text: str, change: Callable[[str], str]) -> str:
    """JSON text with `change` applied to its strings; text that is no JSON is a string itself."""
    try:
        return json.dumps(_mapped(json.loads(text), change), ensure_ascii=False)
    except (ValueError, RecursionError):
        return change(text)


def _mapped(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(one, change) for one in value]
    return {change(key): _mapped(one, change) for key, one in value.items()} if isinstance(value, dict) else value


def with_model_texts(conversation: Conversation, settings: TextSettings) -> Conversation:
    """The conversation with the texts that the model's settings add to messages."""
    messages = list(conversation.messages)
    if settings.default_system is not None and messages[0].role not in ("system", "developer"):
        messages.insert(0, Message("system", settings.default_system))
    if settings.user_suffix:
        for at in range(len(messages) - 1, -1, -1):
            if messages[at].role == "user":
                messages[at] = replace(messages[at], content=messages[at].text + settings.user_suffix)
                break
    if settings.response_prefix and messages[-1].role == "assistant":
        messages[-1] = replace(messages[-1], content=settings.response_prefix + messages[-1].text)
    return conversation if messages == list(conversation.messages) else replace(conversation, messages=tuple(messages))


def turns(conversation: Conversation) -> int:
    """How many turns a conversation has: each begins with a message of the user."""
    return sum(message.role == "user" for message in conversation.messages)


def without_oldest_turns(conversation: Conversation, count: int) -> Conversation:
    """The conversation without its first `count` turns; what stands before the first one stays."""
    messages = conversation.messages
    users = [at for at, message in enumerate(messages) if message.role == "user"]
    return replace(conversation, messages=messages[: users[0]] + messages[users[count] :])
