"""The synchronous client: the asynchronous one on an event loop of its own, in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Literal, overload

from rm_grpc.types import ModelInfo, Result, Score, ScoreOptions, TokenizeResult
from rm_grpc_client.aio import AsyncRewardClient
from rm_grpc_client.background import BackgroundLoop
from rm_grpc_client.inputs import Scorable
from rm_grpc_client.ordering import Ordering
from rm_grpc_client.security import Security


class RewardClient:
    """Scores conversations with a reward service; arguments and errors are those of `AsyncRewardClient`.

    A client may be used by many threads at once. Close it, or use it with `with`. Make it after a fork, not before.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str = "",
        options: ScoreOptions | None = None,
        timeout: float | None = 600.0,
        reconnect: float = 60.0,
        attempts: int = 20,
        ordering: Ordering = "completion",
        security: Security | None = None,
    ) -> None:
        self._background = BackgroundLoop("rm-grpc-client", "client")

        async def make() -> AsyncRewardClient:
            return AsyncRewardClient(
                address,
                model=model,
                options=options,
                timeout=timeout,
                reconnect=reconnect,
                attempts=attempts,
                ordering=ordering,
                security=security,
            )

        try:
            self._client = self._background.run(make())
        except BaseException:
            self._background.close()
            raise

    def __enter__(self) -> RewardClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; streams in work end with an error."""
        self._background.close(self._client.close)

    @overload
    def score(
        self, conversations: Iterable[Scorable], *, timeout: float | None = ..., on_error: Literal["raise"] = ...
    ) -> list[Score]: ...

    @overload
    def score(
        self, conversations: Iterable[Scorable], *, timeout: float | None = ..., on_error: Literal["return"]
    ) -> list[Result]: ...

    def score(
        self,
        conversations: Iterable[Scorable],
        *,
        timeout: float | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Score] | list[Result]:
        """See `AsyncRewardClient.score`."""
        items = list(conversations)
        if on_error == "return":
            return self._background.run(self._client.score(items, timeout=timeout, on_error="return"))
        return self._background.run(self._client.score(items, timeout=timeout))

    def score_stream(self, conversations: Iterable[Scorable], *, timeout: float | None = None) -> Iterator[Result]:
        """See `AsyncRewardClient.score_stream`. The iterable may block: it is consumed in a thread of its own."""
        batches = self._background.stream(lambda source: self._client.score_batches(source, timeout=timeout), conversations)
        with closing(batches):
            for batch in batches:
                yield from batch

    def list_models(self) -> list[ModelInfo]:
        """See `AsyncRewardClient.list_models`."""
        return self._background.run(self._client.list_models())

    def get_model(self, name: str | None = None) -> ModelInfo:
        """See `AsyncRewardClient.get_model`."""
        return self._background.run(self._client.get_model(name))

    def tokenize(self, conversations: Sequence[Scorable]) -> list[TokenizeResult]:
        """See `AsyncRewardClient.tokenize`."""
        return self._background.run(self._client.tokenize(conversations))
