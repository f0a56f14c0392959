"""ms-swift: an asynchronous reward (`AsyncORM`) for `--reward_funcs`.

Interface: ms-swift 4.6, swift/rewards/orm.py. Each call comes on an event loop of its own; None leaves a sample out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from rm_grpc_client.adapters import shared


def register(name: str = "rm_grpc", *, columns: Sequence[str] = (), **settings: Any) -> type:
    """Registers a reward under a name; call it in the file that `--external_plugins` names.

    Args:
        columns: dataset columns that scorers see as metadata.
        settings: of `ClientSettings`; by default those of the environment variables.
    """
    from swift.rewards import AsyncORM, orms

    class RewardModel(AsyncORM):  # type: ignore[misc]  # the base class has no types
        """Scores the conversations of a batch."""

        async def __call__(self, completions: list[str], messages: list[Any], **others: Any) -> list[float | None]:
            """A reward or None for each; `messages` are whole conversations, with the completion as their last one."""
            metadata = shared.per_sample(others, columns, len(completions))
            items = [
                partial(shared.item, conversation[:-1], completion, metadata=extra)
                for conversation, completion, extra in zip(messages, completions, metadata, strict=True)
            ]
            return [found.value for found in await shared.rewards_or_none(items, settings)]

    RewardModel.__name__ = name
    orms[name] = RewardModel
    return RewardModel
