"""What is scored: random token ids, in batches under a token budget."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.lengths import GROUP, GROUP_PROMPT_TOKENS, PROMPT_TOKENS, group_answer, rollout_answers
from rm_grpc_server.models.prefixes import IdArray


@dataclass(frozen=True, slots=True)
class Conversation:
    """Token ids; the first `prompt` of them are the same in the whole group."""

    ids: IdArray
    group: int
    prompt: int


def rollouts(tokens: int, vocabulary: int, repeat: int) -> list[Conversation]:
    """W1: about as many conversations as make `tokens`."""
    draw = np.random.default_rng(repeat)
    mean = PROMPT_TOKENS + sum(rollout_answers(1000)) / 1000
    lengths = rollout_answers(max(1, round(tokens / mean)))
    return [
        Conversation(draw.integers(0, vocabulary, PROMPT_TOKENS + length, dtype=np.int32), at, 0)
        for at, length in enumerate(lengths)
    ]


def groups(count: int, vocabulary: int, repeat: int) -> list[Conversation]:
    """W2: groups of 8 answers to one prompt, group by group."""
    draw, lengths = np.random.default_rng(repeat), random.Random(0)
    made = []
    for group in range(count):
        prompt = draw.integers(0, vocabulary, GROUP_PROMPT_TOKENS, dtype=np.int32)
        for _ in range(GROUP):
            answer = draw.integers(0, vocabulary, group_answer(lengths), dtype=np.int32)
            made.append(Conversation(np.concatenate([prompt, answer]), group, len(prompt)))
    return made


def full_tokens(conversations: Sequence[Conversation]) -> int:
    """Tokens of the full conversations."""
    return sum(len(one.ids) for one in conversations)


def unique_tokens(conversations: Sequence[Conversation]) -> int:
    """Tokens that are left where each prompt stands once."""
    seen = {one.group: one.prompt for one in conversations}
    return sum(len(one.ids) - one.prompt for one in conversations) + sum(seen.values())


def batches(conversations: Sequence[Conversation], budget: int, *, share: bool = False) -> list[list[IdArray]]:
    """Conversations in order, in batches of at most `budget` computed tokens.

    Args:
        share: whether a prompt counts once in a batch.
    """
    made: list[list[IdArray]] = []
    left, seen = -1, -1
    for one in conversations:
        cost = len(one.ids) - (one.prompt if share and one.group == seen else 0)
        if cost > left:
            made.append([])
            left, cost = budget, len(one.ids)
        made[-1].append(one.ids)
        left -= cost
        seen = one.group
    return made
