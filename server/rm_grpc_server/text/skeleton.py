"""Renders conversations along paths that a chat template was seen to take, instead of running the template again.

A skeleton is what a template makes of conversations of one shape (their roles, and which fields are given) that answer its
questions alike: constants, with values of `tracing` between them. The skeletons of a shape are a tree, with a question at each
fork. What asks something new is rendered by Jinja and recorded; where that cannot be recorded, the tree ends in Jinja.

A path is taken only by texts that give the same answers to all questions on it, so that Jinja would take it too. Beyond that, a
new one must give Jinja's text for the conversation that led there, or the template has no skeletons any more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

import jinja2

from rm_grpc.types import Conversation
from rm_grpc_server.text.tracing import Question, Step, Text, Trace, alternating

_LOG = logging.getLogger(__name__)

# A few hundred cover any real load; past this the shapes are endless, and what was learned is let go.
_MOST_SKELETONS = 1024
# A skeleton grows with its texts, and long conversations rarely take a path twice.
_MOST_TEXTS = 64

_Shape: TypeAlias = "tuple[str | int | bool | None, ...]"


@dataclass(frozen=True, slots=True)
class _Skeleton:
    steps: tuple[Step, ...]
    constants: list[str]
    slots: list[int]

    def filled(self, values: list[Any]) -> list[str]:
        """Constants at even places, texts at odd ones."""
        _run(self.steps, values)
        pieces = [""] * (2 * len(self.slots) + 1)
        pieces[::2] = self.constants
        pieces[1::2] = [values[slot] for slot in self.slots]
        return pieces


@dataclass(frozen=True, slots=True)
class _ByJinja:
    """The end of a path that goes no further without Jinja."""


@dataclass(frozen=True, slots=True)
class _Fork:
    steps: tuple[Step, ...]
    ask: Callable[[Any], Any]
    source: int
    branches: dict[Any, _Node]


_Node: TypeAlias = "_Fork | _Skeleton | _ByJinja"


class Skeletons:
    """The skeletons of one template. Safe from several threads: nodes never change but for new branches.

    Args:
        by_jinja: renders a conversation, with or without the generation prompt.
        arguments: what the template is rendered with.
        compiled: makes the template of a `TracingEnvironment`.
    """

    def __init__(
        self,
        *,
        by_jinja: Callable[[Conversation, bool], str],
        arguments: Callable[[Conversation, bool], dict[str, Any]],
        compiled: Callable[[], jinja2.Template],
        parts: bool,
    ) -> None:
        self._by_jinja = by_jinja
        self._arguments = arguments
        self._compiled = compiled
        self._parts = parts
        self._template: jinja2.Template | None = None
        self._lock = threading.Lock()
        self._roots: dict[_Shape, _Node] = {}
        self._count = 0
        self._is_refused = False
        self._is_told = False

    def pieces(self, conversation: Conversation, generation_prompt: bool) -> list[str]:
        """The rendered conversation in pieces: what the template writes by itself at even places, and content at odd ones.

        Raises:
            Exception: whatever `by_jinja` raises.
        """
        read = None if self._is_refused else _read(conversation, generation_prompt, parts=self._parts)
        if read is None:
            return ["", self._by_jinja(conversation, generation_prompt)]
        shape, values = read
        end = _end(self._roots.get(shape), values)
        if isinstance(end, _Skeleton):
            return end.filled(values)
        text = self._by_jinja(conversation, generation_prompt)
        if end is None:
            self._learn(conversation, generation_prompt, text)
        return ["", text]

    def _learn(self, conversation: Conversation, generation_prompt: bool, text: str) -> None:
        """Records the path of a conversation that Jinja renders as `text`."""
        read = _read(conversation, generation_prompt, parts=self._parts)
        assert read is not None  # it was looked up
        shape, texts = read
        trace = Trace(texts)
        end = self._recorded(trace, self._arguments(conversation, generation_prompt))
        root = _path(trace.questions, end)
        if isinstance(end, _Skeleton) and _rendered(root, texts) != text:
            _LOG.warning("a chat template renders otherwise than was recorded; from now on it is always run by Jinja")
            self._is_refused = True
            return
        with self._lock:
            if self._count >= _MOST_SKELETONS:
                self._roots, self._count = {}, 0
            self._count += 1
            _grow(self._roots, shape, trace.questions, end)

    def _recorded(self, trace: Trace, arguments: dict[str, Any]) -> _Skeleton | _ByJinja:
        try:
            self._template = self._template or self._compiled()
            constants, slots = alternating(self._template.render(arguments | {"messages": _hidden(arguments, trace)}))
        except Exception as error:  # noqa: BLE001 - Jinja has rendered it; whatever fails here, it can go on doing so
            if not self._is_told:
                _LOG.info("some conversations are rendered by Jinja in full: %s", error)
                self._is_told = True
            return _ByJinja()
        return _Skeleton(tuple(trace.steps), constants, slots)


def _read(conversation: Conversation, generation_prompt: bool, *, parts: bool) -> tuple[_Shape, list[str]] | None:
    """A conversation's shape, and its texts in the order of `_hidden`; None if it has more than texts."""
    if conversation.tools or len(conversation.messages) > _MOST_TEXTS:
        return None
    shape: list[str | int | bool | None] = [generation_prompt]
    texts: list[str] = []
    for message in conversation.messages:
        if message.tool_calls or message.name or message.tool_call_id:
            return None
        shape.append(message.role)
        content = message.content
        if not parts:
            texts.append(content if isinstance(content, str) else message.text)
        elif isinstance(content, str):
            texts.append(content)
            shape.append(1)
        else:
            texts += content
            shape.append(len(content))
        if message.reasoning_content:
            texts.append(message.reasoning_content)
            shape.append(None)
    return (tuple(shape), texts) if len(texts) <= _MOST_TEXTS else None


def _hidden(arguments: dict[str, Any], trace: Trace) -> list[dict[str, Any]]:
    """The messages as the template gets them, with stand-ins for their texts."""
    texts = (Text(trace, (at,)) for at in count())
    messages = []
    for message in arguments["messages"]:
        content = message["content"]
        hidden = [part | {"text": next(texts)} for part in content] if isinstance(content, list) else next(texts)
        message = message | {"content": hidden}
        if "reasoning_content" in message:
            message |= dict.fromkeys(("reasoning_content", "thinking"), next(texts))
        messages.append(message)
    return messages


def _run(steps: tuple[Step, ...], values: list[Any]) -> None:
    for function, source in steps:
        values.append(function(values if source is None else values[source]))


def _end(node: _Node | None, values: list[Any]) -> _Skeleton | _ByJinja | None:
    """Where the path of some texts ends; None where nothing went so far."""
    while isinstance(node, _Fork):
        if node.steps:
            _run(node.steps, values)
        node = node.branches.get(node.ask(values[node.source]))
    return node


def _rendered(node: _Node, texts: list[str]) -> str | None:
    values = list(texts)
    end = _end(node, values)
    return "".join(end.filled(values)) if isinstance(end, _Skeleton) else None


def _path(questions: Sequence[Question], end: _Node) -> _Node:
    for question in reversed(questions):
        end = _Fork(question.steps, question.ask, question.source, {question.answer: end})
    return end


def _grow(roots: dict[_Shape, _Node], shape: _Shape, questions: Sequence[Question], end: _Node) -> None:
    """Adds a path where it leaves those that are known, whole at once, for others may be on their way."""
    node = roots.get(shape)
    if node is None:
        roots[shape] = _path(questions, end)
    for at, question in enumerate(questions):
        if not isinstance(node, _Fork):
            return
        following = node.branches.get(question.answer)
        if following is None:
            node.branches[question.answer] = _path(questions[at + 1 :], end)
        node = following
