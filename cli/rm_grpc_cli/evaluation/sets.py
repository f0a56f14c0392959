"""Lines of a preference file to sets of answers: some that were chosen, some that were rejected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rm_grpc.errors import InvalidRequestError, RewardError
from rm_grpc_client import Conversation, Message

TIES_ID = re.compile(r"(ref|tied):(\d+)")
"""Ids of RewardBench 2's Ties subset: what kind of prompt, and its number."""


class Rule(Enum):
    """How a set of answers is judged; `accuracy` has the formulas."""

    PAIR = "pair"
    BEST_OF_N = "best of n"
    TIES = "ties"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a set comes from. `line` counts from 1, blank lines too, as editors do."""

    line: int
    id: str = ""
    subset: str = ""
    rule: Rule = Rule.UNREAD


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """Answers to one prompt, each a whole conversation with the name of the field that it comes from."""

    origin: Origin
    chosen: tuple[tuple[str, Conversation], ...]
    rejected: tuple[tuple[str, Conversation], ...]


@dataclass(frozen=True, slots=True)
class FailedSet:
    """A line that was not read, or an answer of it that was not scored: neither right nor wrong."""

    origin: Origin
    error: RewardError


def read_set(number: int, line: bytes) -> CandidateSet | FailedSet:
    """The set of one line.

    A line has `chosen` and `rejected`, each an answer or a list of answers. An answer is text, messages that go on from
    `prompt`, or messages of a whole conversation. `prompt` is text or messages. `subset`, `id`, `tools` and `num_correct` may
    be there; other keys are not read.
    """
    try:
        raw = _object(line)
    except RewardError as error:
        return FailedSet(Origin(number), error)
    origin = Origin(number, _known(raw, "id"), _known(raw, "subset"), _rule(raw))
    try:
        _check(raw, origin)
        prompt, tools = _prompt(raw), _tools(raw)
        chosen, rejected = (
            tuple((where, _conversation(prompt, answer, where, tools)) for where, answer in _answers(raw, key))
            for key in ("chosen", "rejected")
        )
    except RewardError as error:
        return FailedSet(origin, error)
    return CandidateSet(origin, chosen, rejected)


def _object(line: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the line is no JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidRequestError(f"a line must be an object, not {type(raw).__name__}")
    return raw


def _known(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _rule(raw: dict[str, Any]) -> Rule:
    if "chosen" not in raw or "rejected" not in raw:
        return Rule.UNREAD
    if not (_is_list_of_answers(raw["chosen"]) or _is_list_of_answers(raw["rejected"])):
        return Rule.PAIR
    return Rule.TIES if _known(raw, "subset").lower() == "ties" else Rule.BEST_OF_N


def _is_list_of_answers(value: Any) -> bool:
    """A list of objects is one answer, as messages."""
    return isinstance(value, list) and not (value and isinstance(value[0], dict))


def _check(raw: dict[str, Any], origin: Origin) -> None:
    """What can be wrong with a line beside its conversations."""
    for key in ("chosen", "rejected"):
        if key not in raw:
            raise InvalidRequestError("is missing", field=key)
        if raw[key] == []:
            raise InvalidRequestError("must not be empty", field=key)
    for key in ("id", "subset"):
        if raw.get(key) is not None and (isinstance(raw[key], bool) or not isinstance(raw[key], (str, int))):
            raise InvalidRequestError("must be a string or an integer", field=key)
    if origin.rule in (Rule.BEST_OF_N, Rule.TIES):
        count, told = len(list(_answers(raw, "chosen"))), raw.get("num_correct")
        if told is not None and told != count:
            raise InvalidRequestError(f"is {told!r}, but chosen has {count}", field="num_correct")
        if origin.rule is Rule.TIES:
            _check_ties(origin.id, count)


def _check_ties(set_id: str, chosen: int) -> None:
    match = TIES_ID.fullmatch(set_id)
    if match is None:
        raise InvalidRequestError('of the Ties subset must be "ref:NUMBER" or "tied:NUMBER", as in RewardBench 2', field="id")
    if match[1] == "tied" and chosen < 2:
        raise InvalidRequestError("of a tied prompt must have two answers or more", field="chosen")


def _prompt(raw: dict[str, Any]) -> tuple[Message, ...]:
    prompt = raw.get("prompt")
    if prompt is None:
        return ()
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if not isinstance(prompt, list) or not prompt:
        raise InvalidRequestError("must be text or a list of messages", field="prompt")
    return _messages(prompt, "prompt")


def _tools(raw: dict[str, Any]) -> str:
    tools = raw.get("tools")
    if tools is None or isinstance(tools, str):
        return tools or ""
    if not isinstance(tools, list):
        raise InvalidRequestError("must be a list of JSON schemas", field="tools")
    return json.dumps(tools) if tools else ""


def _answers(raw: dict[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    if _is_list_of_answers(raw[key]):
        yield from ((f"{key}[{at}]", answer) for at, answer in enumerate(raw[key]))
    else:
        yield key, raw[key]


def _conversation(prompt: tuple[Message, ...], answer: Any, where: str, tools: str) -> Conversation:
    if isinstance(answer, str):
        if not prompt:
            raise InvalidRequestError("is missing, and an answer that is text needs one", field="prompt")
        return Conversation((*prompt, Message("assistant", answer)), tools)
    if not isinstance(answer, list) or not answer:
        raise InvalidRequestError("must be text or a list of messages", field=where)
    messages = _messages(answer, where)
    if not prompt or _contains(messages, prompt):
        return Conversation(messages, tools)
    if messages[0].role == "assistant":
        return Conversation((*prompt, *messages), tools)
    # Either of two readings would be a guess, and a wrong one a wrong score that nobody sees.
    raise InvalidRequestError("is a conversation without the prompt; leave prompt out, or give the answer alone", field=where)


def _messages(raw: list[Any], where: str) -> tuple[Message, ...]:
    try:
        return Conversation.from_openai(raw).messages
    except InvalidRequestError as error:
        raise error.at(error.field.replace("messages", where, 1)) from error


def _contains(messages: tuple[Message, ...], prompt: tuple[Message, ...]) -> bool:
    """Whether the prompt's messages stand together before the last message."""
    read, sought = ([(message.role, message.text) for message in some] for some in (messages, prompt))
    return any(read[at : at + len(sought)] == sought for at in range(len(read) - len(sought)))
