"""Responses in steps: where each step ends among the tokens, in every layout that process reward models are published with.

The steps of a response are the pieces that its content comes in; content in one piece is split by the model's separator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from rm_grpc import errors
from rm_grpc.types import Conversation, Item, Message, ScoreOptions
from rm_grpc_server.text.checks import refuse_unread
from rm_grpc_server.text.encoding import Encoding, Scope, TokenArray

if TYPE_CHECKING:
    from rm_grpc_server.text.pipeline import TextPipeline

STEP_MARK = "\U0010fdd2"
"""Stands where a step ends while the conversation is rendered: private use, where no tokenizer puts anything."""
Layout = Literal["joined", "apart", "turns"]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one response, and the characters of the response that each has."""

    texts: tuple[str, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class StepReading:
    """See `Reading`.

    Attributes:
        layout: joined writes all steps into the response, each with the mark behind it, and encodes the whole; apart encodes
            each step by itself, and the mark behind it; turns makes each step a message of the user, answered by the mark.
        mark: text behind each step; empty for none (apart only).
        mark_id: its one token.
        between: text between the steps of a joined response.
        separator: what splits a response that comes in one piece.
        empty_steps: what becomes of steps that say nothing.
        strips: whether white space around steps is dropped.
        offset: where the hidden state is read, counted from the mark, or from the step's last token where there is none.
    """

    layout: Layout
    mark: str
    mark_id: int | None
    between: str
    separator: str
    empty_steps: Literal["error", "drop", "keep"]
    strips: bool
    offset: int
    scope: ClassVar[Scope] = "conversations"

    def positions(self, ids: TokenArray, /) -> tuple[int, ...]:
        """See `Reading`: every mark, for text and ids that the caller has laid out."""
        tells = self.mark_id is not None and self.layout == "joined"
        found: list[int] = np.flatnonzero(ids == self.mark_id).tolist() if tells else []
        if not found:
            raise errors.NoStepsError(
                "text and token ids do not tell where this model's steps end; send a conversation", field="conversation"
            )
        return self._reads(found)

    def probe(self, length: int, /) -> tuple[int, ...]:
        """See `Reading`."""
        return (length // 2, length - 1) if length > 1 else (0,)

    def lay_out(self, item: Item, text: TextPipeline, options: ScoreOptions, /) -> Encoding:
        """See `Reading`."""
        conversation = item.input
        assert isinstance(conversation, Conversation)
        text.check(conversation, options)
        if any(STEP_MARK in message.text for message in conversation.messages):
            raise errors.ControlTokensError(
                "the content holds U+10FDD2, which step scores need for themselves", field="conversation"
            )
        steps = self.steps(conversation.messages[-1])
        if self.layout == "apart":
            return self._apart(conversation, steps, text, options)
        return self._marked(conversation, steps, text, options)

    def steps(self, response: Message) -> Steps:
        """The steps of a response.

        Raises:
            NoStepsError: there are none.
            InvalidRequestError: one says nothing, and that is not allowed.
        """
        whole = isinstance(response.content, str) or len(response.content) < 2
        pieces = response.text.split(self.separator) if whole else list(response.content)
        width = len(self.separator) if whole else 0
        texts: list[str] = []
        spans: list[Span] = []
        start = 0
        for piece in pieces:
            span = (start, start + len(piece))
            start = span[1] + width
            if piece.strip() or self.empty_steps == "keep":
                texts.append(piece.strip() if self.strips else piece)
                spans.append(span)
            elif self.empty_steps == "error" and response.text:
                told = f"a step that says nothing, at character {span[0]} of the response"
                raise errors.InvalidRequestError(told, field="conversation.messages[-1].content")
        if not texts or not response.text:
            raise errors.NoStepsError("the response has no steps to score", field="conversation.messages[-1].content")
        return Steps(tuple(texts), tuple(spans))

    def _marked(self, conversation: Conversation, steps: Steps, text: TextPipeline, options: ScoreOptions) -> Encoding:
        """Steps joined in the response, or in turns: the whole is rendered and encoded, and the marks are found in it."""
        *before, response = conversation.messages
        if self.layout == "turns" and (not before or before[-1].role != "user"):
            raise errors.InvalidRequestError(
                "this model reads a message of the user before the response", field="conversation.messages"
            )
        if self.layout == "joined":
            content = self.between.join(step + STEP_MARK for step in steps.texts)
            messages = [*before, replace(response, content=content)]
        else:
            messages = [*before[:-1], *_turns(before[-1], steps.texts)]
        encoding, marks = text.read_marked(replace(conversation, messages=tuple(messages)), options, STEP_MARK, self.mark)
        if len(marks) != len(steps.texts):
            raise errors.TemplateRefusedError(
                f"the template wrote {len(marks)} of {len(steps.texts)} steps; it does not print the whole response",
                field="conversation",
            )
        if any(encoding.ids[at] != self.mark_id for at in marks):
            raise errors.InvalidRequestError(
                f"the mark {self.mark!r} behind a step is no token of its own there", field="conversation.messages[-1].content"
            )
        return replace(encoding, reads=self._reads(marks), steps=steps.spans)

    def _apart(self, conversation: Conversation, steps: Steps, text: TextPipeline, options: ScoreOptions) -> Encoding:
        """The prompt, then each step encoded by itself, so that nothing merges across their ends."""
        before = text.read(replace(conversation, messages=conversation.messages[:-1]), options, may_ask=True)
        refuse_unread(conversation.messages[-1:])
        parts, ends = [before.ids], []
        length = len(before.ids)
        mark = [] if self.mark_id is None else [self.mark_id]
        for step in steps.texts:
            ids = np.concatenate([text.content_ids(step, options) if step else [], mark]).astype(np.int32)
            length += len(ids)
            parts.append(ids)
            ends.append(length - 1)
        written = before.text + "".join(step + self.mark for step in steps.texts)
        return text.assembled(np.concatenate(parts), written, self._reads(ends), steps.spans)

    def _reads(self, ends: Sequence[int]) -> tuple[int, ...]:
        if ends and ends[0] + self.offset < 0:
            raise errors.InvalidRequestError(
                f"nothing stands {-self.offset} tokens before the end of the first step", field="conversation"
            )
        return tuple(end + self.offset for end in ends)


def _turns(question: Message, steps: Sequence[str]) -> list[Message]:
    """Each step as a message of the user, the first behind the question, answered by the mark."""
    turns = []
    for at, step in enumerate(steps):
        turns += [Message("user", step if at else f"{question.text} {step}"), Message("assistant", STEP_MARK)]
    return turns
