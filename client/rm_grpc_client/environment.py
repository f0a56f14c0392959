"""A reward environment: conversations in, rewards out, in the terms of a trainer."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Literal

from rm_grpc.errors import RewardError
from rm_grpc.types import Result, Score
from rm_grpc_client.aio import AsyncRewardClient
from rm_grpc_client.inputs import Scorable


@dataclass(frozen=True, slots=True)
class Reward:
    """What a trainer uses for one conversation.

    Attributes:
        index: the conversation's position in what the caller gave.
        value: the reward, or None where the conversation could not be scored; never a number that stands for a failure.
        score: the score that it comes from.
        error: why there is none.
    """

    index: int
    value: float | None
    score: Score | None
    error: RewardError | None


class RewardEnvironment:
    """Turns conversations into rewards while generation goes on.

    Args:
        client: whom to ask; the environment does not close it.
        failures: "raise" lets a conversation that cannot be scored end the call, "none" gives a `Reward` without a value, for
            the trainer to mask.
    """

    def __init__(self, client: AsyncRewardClient, *, failures: Literal["raise", "none"] = "raise") -> None:
        self.client = client
        self.failures = failures

    async def rewards(self, conversations: Iterable[Scorable]) -> list[Reward]:
        """The rewards of a list, in its order.

        Raises:
            RewardError: the whole call failed, or an item did and `failures` is "raise".
        """
        rewards = [reward async for reward in self.stream(conversations)]
        return sorted(rewards, key=lambda reward: reward.index)

    async def stream(self, conversations: Iterable[Scorable] | AsyncIterable[Scorable]) -> AsyncIterator[Reward]:
        """Each conversation's reward as it is ready, while the iterable is still being consumed.

        Raises:
            RewardError: as `rewards`.
        """
        async for result in self.client.score_stream(conversations):
            yield self._reward(result)

    def _reward(self, result: Result) -> Reward:
        if self.failures == "raise" or result.error is None:
            return Reward(result.index, result.score.score, result.score, None)
        return Reward(result.index, None, None, result.error)
