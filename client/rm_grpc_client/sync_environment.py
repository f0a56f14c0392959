"""The reward environment for trainers that are synchronous, or that score one conversation a thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from types import TracebackType

from rm_grpc.types import ModelInfo
from rm_grpc_client.background import BackgroundLoop
from rm_grpc_client.environment import Reward, RewardEnvironment
from rm_grpc_client.inputs import Scorable


class SyncRewardEnvironment:
    """An environment that any number of threads may use at once.

    One-item calls of many threads share one stream and travel together: what comes while a message is being written goes with
    the next. Close it, or use it with `with`. Make it after a fork, not before.

    Args:
        environment: what it wraps, and closes at its own end; nobody else may use it.
    """

    def __init__(self, environment: RewardEnvironment) -> None:
        self._environment = environment
        self._background = BackgroundLoop("rm-grpc-environment", "environment")

    def __enter__(self) -> SyncRewardEnvironment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections; rewards that are on their way are cancelled."""
        self._background.close(self._environment.close)

    def submit(self, conversation: Scorable) -> Future[Reward]:
        """Begins to score one conversation; see `RewardEnvironment.submit`."""
        return self._background.submit(self._scored(conversation))

    def reward(self, conversation: Scorable) -> Reward:
        """The reward of one conversation; raises as `RewardEnvironment.rewards`."""
        return self._background.run(self._scored(conversation))

    def rewards(self, conversations: Iterable[Scorable]) -> list[Reward]:
        """See `RewardEnvironment.rewards`."""
        return self._background.run(self._environment.rewards(list(conversations)))

    def stream(self, conversations: Iterable[Scorable]) -> Iterator[Reward]:
        """See `RewardEnvironment.stream`. The iterable may block: it is consumed in a thread of its own."""
        rewards = self._background.stream(self._environment.stream, conversations)
        with closing(rewards):
            yield from rewards

    def metrics(self, *, reset: bool = False) -> dict[str, float]:
        """See `RewardEnvironment.metrics`."""

        async def told() -> dict[str, float]:
            return self._environment.metrics(reset=reset)

        return self._background.run(told())

    def get_model(self) -> ModelInfo:
        """See `RewardEnvironment.get_model`."""
        return self._background.run(self._environment.get_model())

    async def _scored(self, conversation: Scorable) -> Reward:
        return await self._environment.submit(conversation)
