"""Two texts side by side: a question and its answer, or a response and its rival in both orders.

The rival is `metadata["rival"]`: another response to the same prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rm_grpc import errors
from rm_grpc.types import ControlTokens, Conversation, Item, Message, ScoreOptions, Verdict
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.text.checks import refuse_unread
from rm_grpc_server.text.encoding import Encoding, Parts, Scope, TokenArray
from rm_grpc_server.text.metadata import metadata_text
from rm_grpc_server.text.reading import OfConversations
from rm_grpc_server.text.template import ChatTemplate

if TYPE_CHECKING:
    from rm_grpc_server.text.pipeline import TextPipeline
    from rm_grpc_server.text.tokenizer import TokenizerFiles

RIVAL = "rival"
_WHY = "this model compares the response with another one to the same prompt"
_PLACE = re.compile(r"\{(context|first|second)\}")
_TURNS = ("user", "assistant")


def both_orders(item: Item) -> tuple[tuple[str, str], tuple[str, str]]:
    """The response and its rival, and the other way round."""
    assert isinstance(item.input, Conversation)
    response, rival = item.input.messages[-1].text, metadata_text(item.metadata, RIVAL, _WHY)
    return (response, rival), (rival, response)


def checked(item: Item, text: TextPipeline, options: ScoreOptions) -> Conversation:
    """The conversation, once it and the rival may be read."""
    conversation = item.input
    assert isinstance(conversation, Conversation)
    text.check(conversation, options)
    rival = metadata_text(item.metadata, RIVAL, _WHY)
    try:
        text.check(Conversation((*conversation.messages[:-1], Message("assistant", rival))), options)
    except errors.RewardError as error:
        raise error.at(f"metadata.{RIVAL}") from error
    return conversation


def mean_probability(verdicts: Sequence[Verdict]) -> Verdict:
    """The mean of both orders; each verdict is the probability that the first response is the better one."""
    first, second = verdicts[0].raw_score, 1.0 - verdicts[1].raw_score
    return Verdict((first + second) / 2, _told(first, second, even=0.5))


def difference(verdicts: Sequence[Verdict]) -> Verdict:
    """What the first response is ahead in one order less what its rival is ahead in the other (PairRM)."""
    first, second = verdicts[0].raw_score, -verdicts[1].raw_score
    return Verdict(first + second, _told(first, second, even=0.0))


def _told(first: float, second: float, *, even: float) -> dict[str, float]:
    """Both orders' preferences for the response, and whether they disagree on the winner."""
    return dict(zip(ORDER_ATTRIBUTES, (first, second, float((first > even) != (second > even))), strict=True))


ORDER_ATTRIBUTES = ("first_order", "second_order", "swap_inconsistent")
PREFIX_IDS = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")
"""Where PairRM's config has the ids of the tokens that it is read at."""
MAX_SOURCE, MAX_LENGTH = 1224, 2048
"""Most tokens of PairRM's source and of all (llm_blender)."""


@dataclass(frozen=True, slots=True)
class Comparison(OfConversations):
    """Both responses in one message of the user, which is answered by the letter of the better one; in both orders.

    Attributes:
        context_template: a chat template for what comes before the responses.
        message: the message, with {context}, {first} and {second}.
    """

    context_template: str
    message: str

    def lay_out(self, item: Item, text: TextPipeline, options: ScoreOptions, /) -> Parts:
        """See `Reading`."""
        conversation = checked(item, text, options)
        _require_turns(conversation)
        context = context_template(self.context_template).render(replace(conversation, messages=conversation.messages[:-1]))
        encodings = []
        for first, second in both_orders(item):
            texts = {"context": context, "first": first, "second": second}
            message = _PLACE.sub(lambda match, texts=texts: texts[match.group(1)], self.message)  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
            encoding = text.read(Conversation((Message("user", message),)), options, may_ask=True)
            encodings.append(replace(encoding, reads=(len(encoding.ids) - 1,)))
        return Parts(tuple(encodings), mean_probability)


@cache
def context_template(source: str) -> ChatTemplate:
    """The template for what comes before the responses; raises ConfigError where it does not compile."""
    return ChatTemplate(source, {}, date_string=None, add_generation_prompt=False, content="text", tool_arguments="object")


@dataclass(frozen=True, slots=True)
class TextPair(OfConversations):
    """See `Reading`: question and answer as the tokenizer puts a pair together, summed up in the first token.

    The reads are that token and the place where the second text begins, by which BERT's kind tells the texts apart.

    Attributes:
        turns: what the question is of a conversation of several turns: single refuses them, last takes the last message before
            the answer, all takes all of them, one a line.
    """

    scope: ClassVar[Scope] = "texts"
    turns: str = "single"

    def probe(self, length: int, /) -> tuple[int, ...]:
        """See `Reading`: the first token, and where the second text begins."""
        return (0, length // 2)

    def lay_out(self, item: Item, text: TextPipeline, options: ScoreOptions, /) -> Encoding:
        """See `Reading`."""
        conversation = item.input
        assert isinstance(conversation, Conversation)
        text.check(conversation, options)
        _refuse_as_text(options)
        *before, answer = conversation.messages
        if not before or (self.turns == "single" and [message.role for message in before] != ["user"]):
            raise errors.InvalidRequestError(
                "this model reads one question and one answer; send one message of the user and one of the assistant, or set "
                "scorer.turns",
                field="conversation.messages",
            )
        asked = before[-1:] if self.turns == "last" else before
        question = "\n".join(message.text for message in asked)
        refuse_unread(conversation.messages)
        ids, second = text.files.pair_ids(question, answer.text)
        return text.assembled(ids, f"{question}\n{answer.text}", (0, second))


@dataclass(frozen=True, slots=True)
class Candidates(OfConversations):
    """See `Reading`: a source and two candidates, each behind a token of its own at which it is read (PairRM); in both orders.

    Attributes:
        source, first, second: texts of those tokens.
        ids: their ids.
        max_source: most tokens of the source, its special ones included.
        max_length: most tokens of all.
    """

    source: str
    first: str
    second: str
    ids: tuple[int, int, int]
    max_source: int
    max_length: int
    scope: ClassVar[Scope] = "texts"

    @classmethod
    def of(
        cls, config: Mapping[str, Any], files: TokenizerFiles, *, max_source: int = MAX_SOURCE, max_length: int = MAX_LENGTH
    ) -> Candidates:
        """The layout of a checkpoint.

        Args:
            config: config.json, with `PREFIX_IDS`.

        Raises:
            ConfigError: the tokenizer has not the tokens that the config names.
        """
        texts = {at: text for text, at in files.added_tokens.items()}
        source, first, second = (int(config[name]) for name in PREFIX_IDS)
        if missing := [at for at in (source, first, second) if at not in texts]:
            raise ConfigError(f"the tokenizer has no tokens of the ids {missing}, which config.json names")
        return cls(texts[source], texts[first], texts[second], (source, first, second), max_source, max_length)

    def _places(self, ids: TokenArray) -> tuple[int, ...]:
        found = [np.flatnonzero(ids == token) for token in self.ids]
        if any(len(places) != 1 for places in found):
            raise errors.InvalidRequestError(
                f"{self.source}, {self.first} and {self.second} must each stand once; send a conversation", field="conversation"
            )
        return tuple(int(places[0]) for places in found)

    def probe(self, length: int, /) -> tuple[int, ...]:
        """See `Reading`."""
        return (0, length // 2, length - 1)

    def lay_out(self, item: Item, text: TextPipeline, options: ScoreOptions, /) -> Parts:
        """See `Reading`."""
        conversation = checked(item, text, options)
        _refuse_as_text(options)
        source, write = _source_and_candidates(conversation)
        encodings = [self._encoded(text, source, write(first), write(second)) for first, second in both_orders(item)]
        return Parts(tuple(encodings), difference)

    def _encoded(self, text: TextPipeline, source: str, first: str, second: str) -> Encoding:
        texts = (self.source + source, self.first + first, self.second + second)
        ids = [text.files.single_ids(each) for each in texts]
        room = (self.max_length - len(ids[0])) // 2
        for name, one, most in zip(("prompt", "response", RIVAL), ids, (self.max_source, room, room), strict=True):
            if len(one) > most:
                raise errors.ConversationTooLongError(
                    f"the {name} is {len(one)} tokens, and the model reads at most {most} of it", field="conversation"
                )
        whole = np.concatenate(ids)
        return text.assembled(whole, "\n".join(texts), self._places(whole))


_INSTRUCTION = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
"""PairRM was trained with these words, spelling included (llm_blender)."""


def _source_and_candidates(conversation: Conversation) -> tuple[str, Callable[[str], str]]:
    """The source, and what a last response becomes as a candidate: plain for one turn, numbered for several."""
    _require_turns(conversation)
    messages = conversation.messages
    if len(messages) == len(_TURNS):
        return messages[0].text, lambda response: response
    turns = [f"USER: {message.text}\nAssistant: <Response {at}>" for at, message in enumerate(messages[::2], 1)]
    before = [message.text for message in messages[1:-1:2]]

    def candidate(response: str) -> str:
        return "\n".join(f"<Response {at}>: {answer}" for at, answer in enumerate([*before, response], 1))

    return _INSTRUCTION + "\n".join(turns), candidate


def _require_turns(conversation: Conversation) -> None:
    messages = conversation.messages
    if len(messages) % 2 or any(message.role != _TURNS[at % 2] for at, message in enumerate(messages)):
        raise errors.InvalidRequestError(
            "this model reads messages of user and assistant in turn, and nothing else", field="conversation.messages"
        )
    refuse_unread(messages)


def _refuse_as_text(options: ScoreOptions) -> None:
    if options.control_tokens is ControlTokens.AS_TEXT:
        raise errors.InvalidRequestError(
            "this model's texts are put together by its tokenizer, which cannot take control tokens as text",
            field="options.control_tokens",
        )
