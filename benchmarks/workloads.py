"""What is scored: seeded conversations, the same lengths in each repeat and fresh text in each.

A tag at the start of the first user turn makes every conversation (or group) of every repeat new, so that no cache of answers
or prefixes can hold it from an earlier one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile

from benchmarks.encoder import Encoder
from benchmarks.lengths import GROUP, GROUP_PROMPT_TOKENS, PROMPT_TOKENS, group_answer, rollout_answers

WORKERS = 16
"""Conversations in flight of the rollout stream: each worker sends its next one when its last one is answered."""
GROUP_WORKERS = 32
"""Conversations in flight of the stream of groups."""
_LONG_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Conversation:
    """One thing to score.

    Attributes:
        messages: a user turn and the answer to it, in the OpenAI shape.
        ids: what the model reads.
        group: the same for answers to one prompt; empty for a conversation by itself.
    """

    messages: tuple[dict[str, str], ...]
    ids: tuple[int, ...]
    group: str = ""


def tokens(conversations: Sequence[Conversation]) -> int:
    """Tokens of the full conversations: what a forward of each by itself computes."""
    return sum(len(conversation.ids) for conversation in conversations)


def shared_lengths(conversations: Sequence[Conversation]) -> list[tuple[int, int]]:
    """Tokens of each conversation, and how many leading ones are another's where members of a group share each prefix."""

    def key(conversation: Conversation) -> tuple[str, tuple[int, ...]]:
        return conversation.group, conversation.ids

    lengths = []
    for group, members in groupby(sorted(conversations, key=key), key=lambda conversation: conversation.group):
        before: tuple[int, ...] = ()
        for member in members:
            before = before if group else ()
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, member.ids, strict=False)))
            lengths.append((len(member.ids), shared))
            before = member.ids
    return lengths


class Workload:
    """Makes conversations that encode to about the wanted numbers of tokens.

    Args:
        encoder: the tokenizer that counts.
        seed: of lengths and texts.
    """

    def __init__(self, encoder: Encoder, seed: int = 0) -> None:
        self._encoder = encoder
        self._words = encoder.words()
        self._seed = seed

    def rollouts(self, count: int, repeat: int) -> list[Conversation]:
        """W1: distinct prompts of about 60 tokens; lengths of answers are log-normal with a median of 300 tokens."""
        text = self._text(repeat, "rollouts")
        made = []
        for at, length in enumerate(rollout_answers(count, self._seed)):
            answer = _words(text, self._words, length)
            made.append(self._conversation(f"{_tag(repeat, at)} {_words(text, self._words, PROMPT_TOKENS)}", answer))
        return made

    def groups(self, count: int, repeat: int) -> list[Conversation]:
        """W2: groups of 8 answers of about 150 tokens to one prompt of 600, in the order in which they finish.

        A group's members finish near each other, and near those of the groups before and after.
        """
        text, finish = self._text(repeat, "groups"), random.Random(self._seed)
        timed: list[tuple[float, Conversation]] = []
        for at in range(count):
            prompt = f"{_tag(repeat, at)} {_words(text, self._words, GROUP_PROMPT_TOKENS)}"
            for _ in range(GROUP):
                answer = _words(text, self._words, group_answer(finish))
                conversation = self._conversation(prompt, answer, _tag(repeat, at))
                timed.append((at + finish.uniform(0.0, 1.5), conversation))
        return [conversation for _, conversation in sorted(timed, key=lambda pair: pair[0])]

    def long(self, count: int, repeat: int) -> list[Conversation]:
        """W3: conversations of 4096 characters, a quarter of them the prompt. Bodies are drawn from a few; tags are fresh."""
        text = self._text(repeat, "long")
        prompt = _characters(text, self._words, _LONG_CHARACTERS // 4)
        answers = [_characters(text, self._words, 3 * _LONG_CHARACTERS // 4) for _ in range(16)]
        made = []
        for at in range(count):
            tag = f"{_tag(repeat, at)} "
            made.append(self._conversation(tag + prompt[len(tag) :], answers[at % len(answers)]))
        return made

    def _text(self, repeat: int, name: str) -> random.Random:
        return random.Random(f"{self._seed} {name} {repeat}")

    def _conversation(self, prompt: str, answer: str, group: str = "") -> Conversation:
        messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
        return Conversation(messages, tuple(self._encoder.ids(messages)), group)


def _tag(repeat: int, at: int) -> str:
    """A number of its own, different from its first digits on: what counts up would share them."""
    return f"{(repeat * 1_000_000 + at) * 3**18 % 10**9:09d}."


def _words(text: random.Random, words: Sequence[str], count: int) -> str:
    return " ".join(text.choices(words, k=count))


def _characters(text: random.Random, words: Sequence[str], count: int) -> str:
    return _words(text, words, count)[:count].ljust(count, "s")
