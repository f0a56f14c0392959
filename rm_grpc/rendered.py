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
        ends: marks that end one.
        starts: marks of which one may stand before the first turn.
        roles: roles by the names that the family has for them.
        leads_with_system: whether text before the first turn is the system message.
    """

    name: str
    opening: re.Pattern[str]
    ends: tuple[str, ...]
    starts: tuple[str, ...]
    roles: dict[str, str]
    leads_with_system: bool = False


_OWN = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool", "developer": "developer"}
_FAMILIES = (
    _Family(
        "ChatML",
        re.compile(r"<\|im_start\|>(?P<role>\w+)(?:\n|<\|im_sep\|>)"),
        ("<|im_end|>", "<|endoftext|>"),
        ("<s>", "<|endoftext|>"),
        _OWN,
    ),
    _Family(
        "Llama 3",
        re.compile(r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>\n\n"),
        ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
        ("<|begin_of_text|>",),
        {**_OWN, "ipython": "tool"},
    ),
    _Family(
        "Gemma",
        re.compile(r"<start_of_turn>(?P<role>\w+)\n"),
        ("<end_of_turn>", "<eos>"),
        ("<bos>",),
        {"user": "user", "model": "assistant", "system": "system"},
    ),
    _Family(
        "DeepSeek",
        re.compile(r"<｜(?P<role>User|Assistant)｜>"),
        ("<｜end▁of▁sentence｜>",),
        ("<｜begin▁of▁sentence｜>",),
        {"User": "user", "Assistant": "assistant"},
        leads_with_system=True,
    ),
    _Family(
        "GLM, Phi and Zephyr",
        re.compile(r"<\|(?P<role>system|user|assistant|observation)\|>\n?"),
        ("<|end|>", "</s>", "<|endoftext|>"),
        ("[gMASK]<sop>", "<s>"),
        {**_OWN, "observation": "tool"},
    ),
    _Family(
        "Mistral",
        re.compile(r"\[(?P<role>SYSTEM_PROMPT|INST|/INST)\] ?"),
        ("</s>", "[/SYSTEM_PROMPT]"),
        ("<s>",),
        {"SYSTEM_PROMPT": "system", "INST": "user", "/INST": "assistant"},
    ),
)
_NEXT_TURNS = ("<|user|>", "<|observation|>")
"""What GLM ends an answer with: the opening of the turn that is not its own."""
_ENDS = tuple(dict.fromkeys([*(end for family in _FAMILIES for end in family.ends if end[0] == "<"), *_NEXT_TURNS]))
_OPENED_THOUGHT = re.compile(r"\s*(?:<think>\s*(?:</think>\s*)?|</think>\s*)?")
"""What templates of reasoning models open an answer with."""
_LLAMA_DATES = re.compile(r"\A(?:Environment: ipython\n)?Cutting Knowledge Date: [^\n]*\nToday Date: [^\n]*\n\n?")
"""What Llama 3.1's template puts before any system message by itself."""


def messages_of(text: str) -> tuple[Message, ...]:
    """The messages of a rendered prompt; the opening of an answer at its end is none of them.

    Text without any known mark is one message of the user.

    Raises:
        InvalidRequestError: the text cannot be told apart.
    """
    return _prompt(text)[0]


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


def rollout_of(prompt: str, response: str) -> Conversation:
    """The conversation of a rendered prompt and what was generated behind it: marks inside the response make no turns.

    A thought that the template has opened belongs to the response.

    Raises:
        InvalidRequestError: as `messages_of`.
    """
    messages, opened = _prompt(prompt)
    return Conversation((*messages, Message("assistant", opened + without_end(response))))


def without_end(response: str) -> str:
    """A generated response without the marks that end it; a space before them is the policy's."""
    return _peeled(response, _ENDS)[0]


def _prompt(text: str) -> tuple[tuple[Message, ...], str]:
    """The messages of a text, and what it opens an answer with."""
    family = next((family for family in _FAMILIES if family.opening.search(text)), None)
    if family is None:
        return (Message("user", text),), ""
    if family.name == "DeepSeek" and "<｜tool" in text:
        raise InvalidRequestError("turns of tools in the format of DeepSeek cannot be told apart; send messages")
    turns = list(family.opening.finditer(text))
    messages = _leading(family, text[: turns[0].start()])
    ends = [turn.start() for turn in turns[1:]] + [len(text)]
    is_closed = False
    for turn, end in zip(turns, ends, strict=True):
        role = family.roles.get(turn["role"])
        if role is None:
            raise InvalidRequestError(f"a turn of {turn['role']!r}, which the format of {family.name} has not")
        content, is_closed = _peeled(text[turn.end() : end], family.ends)
        if family.name == "Mistral" and role == "user":
            content = content.removesuffix(" ")
        messages.append(Message(role, content))
    if family.name == "Llama 3":
        messages = _without_dates(messages)
    last = messages[-1] if messages and not is_closed else None
    if last is not None and not last.text and last.role in ("user", "tool") and len(messages) > 1:
        messages.pop()  # GLM ends an answer so
    elif last is not None and last.role == "assistant" and _OPENED_THOUGHT.fullmatch(last.text):
        return tuple(messages[:-1]), last.text
    return tuple(messages), ""


def _leading(family: _Family, before: str) -> list[Message]:
    before = before.lstrip()
    start = next((start for start in family.starts if before.startswith(start)), "")
    before = before.removeprefix(start).lstrip()
    if not before:
        return []
    if not family.leads_with_system:
        raise InvalidRequestError(
            f"the text before the first turn belongs to none, in the format of {family.name}: {before[:60]!r}"
        )
    return [Message("system", before)]


def _peeled(text: str, ends: tuple[str, ...]) -> tuple[str, bool]:
    """A text without the marks at its end and the white space behind and between them; whether there was one."""
    kept = end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        mark = next((mark for mark in ends if text.endswith(mark, 0, end)), None)
        if mark is None:
            return text[:kept], kept < len(text)
        kept = end = end - len(mark)


def _without_dates(messages: list[Message]) -> list[Message]:
    if messages and messages[0].role == "system":
        rest = _LLAMA_DATES.sub("", messages[0].text)
        return [Message("system", rest), *messages[1:]] if rest.strip() else messages[1:]
    return messages
