"""Messages out of text that a policy's chat template has rendered, for trainers that hand over nothing else.

A reward model has a template of its own, and text that carries another's marks scores silently wrong. What a template did not
keep cannot be had back: white space that it trimmed is gone, and a system message that it added looks like the caller's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rm_grpc.errors import InvalidRequestError, NoResponseError
from rm_grpc.types import Conversation, Message


@dataclass(frozen=True, slots=True)
class _Family:
    """How one family of templates writes turns.

    Attributes:
        opening: what begins a turn, with its role as the group `role`.
        closing: what ends one.
        starts: what may stand before the first turn.
        roles: roles by the names that the family has for them.
        leads_with_system: whether text before the first turn is the system message.
    """

    name: str
    opening: re.Pattern[str]
    closing: re.Pattern[str]
    starts: re.Pattern[str]
    roles: dict[str, str]
    leads_with_system: bool = False


def _family(
    name: str, opening: str, closing: str, starts: str, roles: dict[str, str], *, leads_with_system: bool = False
) -> _Family:
    return _Family(
        name,
        re.compile(opening),
        re.compile(rf"(?:{closing})\s*\Z"),
        re.compile(rf"\s*(?:{starts})?\s*"),
        roles,
        leads_with_system,
    )


_OWN = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool", "developer": "developer"}
_FAMILIES = (
    _family("ChatML", r"<\|im_start\|>(?P<role>\w+)\n", r"<\|im_end\|>", r"<s>|<\|endoftext\|>", _OWN),
    _family(
        "Llama 3",
        r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>\n\n",
        r"<\|eot_id\|>|<\|eom_id\|>|<\|end_of_text\|>",
        r"<\|begin_of_text\|>",
        {**_OWN, "ipython": "tool"},
    ),
    _family(
        "Gemma",
        r"<start_of_turn>(?P<role>\w+)\n",
        r"<end_of_turn>|<eos>",
        r"<bos>",
        {"user": "user", "model": "assistant", "system": "system"},
    ),
    _family(
        "DeepSeek",
        r"<｜(?P<role>User|Assistant)｜>",
        r"<｜end▁of▁sentence｜>",
        r"<｜begin▁of▁sentence｜>",
        {"User": "user", "Assistant": "assistant"},
        leads_with_system=True,
    ),
    _family(
        "GLM, Phi and Zephyr",
        r"<\|(?P<role>system|user|assistant)\|>\n?",
        r"<\|end\|>|</s>|<\|endoftext\|>",
        r"\[gMASK\]<sop>|<s>",
        _OWN,
    ),
    _family("Mistral", r"(?P<role>\[INST\]|\[/INST\]) ?", r"</s>", r"<s>", {"[INST]": "user", "[/INST]": "assistant"}),
)
_ENDS = re.compile(
    r"(?:\s*(?:<\|im_end\|>|<\|eot_id\|>|<\|end_of_text\|>|<end_of_turn>|<eos>|</s>|<｜end▁of▁sentence｜>|<\|end\|>|"
    r"<\|endoftext\|>))+\s*\Z"
)
_LLAMA_DATES = re.compile(r"\A(?:Environment: ipython\n)?(?:Cutting Knowledge Date: [^\n]*\n)(?:Today Date: [^\n]*\n)\n?")
"""What Llama 3.1's template puts before any system message by itself."""


def messages_of(text: str) -> tuple[Message, ...]:
    """The messages of a rendered prompt; the opening of an answer at its end is none of them.

    Text without any known mark is one message of the user.

    Raises:
        InvalidRequestError: the text cannot be told apart.
    """
    family = next((family for family in _FAMILIES if family.opening.search(text)), None)
    if family is None:
        return (Message("user", text),)
    turns = list(family.opening.finditer(text))
    before = text[: turns[0].start()]
    start = family.starts.match(before)
    before = before[start.end() :] if start is not None else before
    messages = [Message("system", before.strip())] if before.strip() and family.leads_with_system else []
    if before.strip() and not family.leads_with_system:
        raise InvalidRequestError(
            f"the text before the first turn belongs to none, in the format of {family.name}: {before[:60]!r}"
        )
    ends = [turn.start() for turn in turns[1:]] + [len(text)]
    for turn, end in zip(turns, ends, strict=True):
        role = family.roles.get(turn["role"])
        if role is None:
            raise InvalidRequestError(f"a turn of {turn['role']!r}, which the format of {family.name} has not")
        content = family.closing.sub("", text[turn.end() : end])
        messages.append(Message(role, content))
    if not messages[-1].text and messages[-1].role == "assistant":
        messages.pop()
    return tuple(_without_dates(messages) if family.name == "Llama 3" else messages)


def conversation_of(text: str) -> Conversation:
    """The conversation of a rendered prompt with its response.

    Raises:
        NoResponseError: the text does not end with an answer that its marks tell from the prompt.
        InvalidRequestError: as `messages_of`.
    """
    messages = messages_of(text)
    if not messages or messages[-1].role != "assistant":
        raise NoResponseError("the text has no marks of a chat template that tell the response from the prompt; send messages")
    return Conversation(messages)


def without_end(response: str) -> str:
    """A generated response without the marks that end it."""
    return _ENDS.sub("", response)


def _without_dates(messages: list[Message]) -> list[Message]:
    if messages and messages[0].role == "system":
        rest = _LLAMA_DATES.sub("", messages[0].text)
        return [Message("system", rest), *messages[1:]] if rest.strip() else messages[1:]
    return messages
